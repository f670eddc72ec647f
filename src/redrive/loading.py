"""Finding an application by name: `module:attribute`, or `path/to/file.py:attribute`."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

from redrive.app import App
from redrive.errors import DeclarationError
from redrive.telemetry import MessageIds

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configured_target() -> str | None:
    """The application named by REDRIVE_APP, or by `[tool.redrive] app` of the nearest pyproject.toml; or None."""
    if target := os.environ.get("REDRIVE_APP"):
        return target
    for folder in (Path.cwd(), *Path.cwd().parents):
        project = folder / "pyproject.toml"
        if project.is_file():
            return _named_in(project)
    return None


def _named_in(project: Path) -> str | None:
    try:
        tool = tomllib.loads(project.read_text("utf-8")).get("tool", {}).get("redrive", {})
        target = tool.get("app")
    except (ValueError, AttributeError) as error:
        raise DeclarationError(f"{project}", f"cannot be read ({error})", "mend it, or use --app") from None
    return None if target is None else str(target)


def load_app(target: str, app_dir: str = ".") -> App[Any]:
    """Import the application.

    Args:
        target: `module:attribute` or `path/to/file.py:attribute`.
        app_dir: the folder put first on the import path, as if Python had been started there.

    Raises:
        DeclarationError: If there is no such module, attribute or App. What the module itself raises passes through.
    """
    name, colon, attribute = target.rpartition(":")
    if not colon or not name or not attribute:
        raise DeclarationError(f"application {target!r}", "is not a name", "write it like module:app or app.py:app")
    folder = os.fspath(Path(app_dir).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _from_file(Path(app_dir) / name, target) if name.endswith(".py") else _from_name(name, target)
    app = getattr(module, attribute, None)
    if not isinstance(app, App):
        raise DeclarationError(
            f"application {target!r}", f"is not there: {attribute!r} is {type(app).__name__}", "name a redrive App"
        )
    return app


def log_to_stderr(level: str) -> None:
    """The log of a process that is a worker's own; libraries never do this."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(MessageIds())
    handler.setFormatter(_Formatter(LOG_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Formatter(logging.Formatter):
    """Ends a line made inside a handler with its queue and message id."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        message_id, queue = getattr(record, "message_id", "-"), getattr(record, "queue", "-")
        return line if message_id == "-" or message_id in line else f"{line} [{queue} {message_id}]"


def _from_name(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise DeclarationError(
            f"application {target!r}", f"cannot be found: there is no module {error.name!r}", "check --app-dir"
        ) from None


def _from_file(path: Path, target: str) -> ModuleType:
    if not path.is_file():
        raise DeclarationError(f"application {target!r}", "cannot be found: there is no such file", "check the path")
    folder = os.fspath(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(path.stem)
