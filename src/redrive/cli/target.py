"""Which application or broker an operator's command is about, and the options that every such command has.

Code is optional: with it, bodies are checked against the queue's own type; without it, against the schema that a
worker left. The first of these counts: `--app`, `--broker`, REDRIVE_APP, `[tool.redrive] app`, REDRIVE_BROKER.
`--broker` beside `--app` is where that application is looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate

import click

from redrive.cli.output import Output
from redrive.errors import DatabaseUnusable, DeclarationError, RedriveError

if TYPE_CHECKING:
    from redrive.app import App
    from redrive.operations import Operations

Act = Callable[Concatenate["Operations", Output, ...], Awaitable[None]]
"""What an operator's command does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was named on the command line."""

    app: str | None
    app_dir: str
    broker: str | None


def operator(act: Act) -> Callable[..., None]:
    """Make a coroutine function the body of a command: it is handed open `Operations` and an `Output`."""

    @click.option("--app", metavar="TARGET", help="The application, module:attribute. Unless given: REDRIVE_APP.")
    @click.option("--app-dir", default=".", show_default=True, help="The folder that its module is found in.")
    @click.option("--broker", metavar="ADDRESS", help="sqlite:FILE, instead of an application. Or REDRIVE_BROKER.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    @functools.wraps(act)
    def command(**options: Any) -> None:  # noqa: ANN401 - click passes whatever was declared
        target = Target(app=options.pop("app"), app_dir=options.pop("app_dir"), broker=options.pop("broker"))
        output = Output(as_json=options.pop("as_json"))
        asyncio.run(_perform(act, target, output, **options))

    return command


async def _perform(act: Act, target: Target, output: Output, **options: object) -> None:
    async with opened(target) as operations:
        await act(operations, output, **options)


@contextlib.asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Operations]:
    """What an operator can do, on what was named.

    Raises:
        DeclarationError: If nothing was named, or it cannot be found.
        DatabaseUnusable: If there is no such database: looking must not create one.
    """
    from redrive.loading import configured_target  # noqa: PLC0415 - `--help` does not need it
    from redrive.operations import Operations  # noqa: PLC0415 - likewise

    name = target.app or (None if target.broker else configured_target())
    address = target.broker or os.environ.get("REDRIVE_BROKER")
    if name is not None:
        if target.broker:
            os.environ["REDRIVE_BROKER"] = target.broker
        app = loaded(name, target.app_dir)
        _must_exist(app.address())
        async with app:
            yield Operations.of(app)
    elif address is not None:
        async with Operations.open(_located(address)) as operations:
            yield operations
    else:
        raise DeclarationError("an application or a broker", "is not named", _REMEDY)


_REMEDY = (
    "give --app module:attribute (or REDRIVE_APP, or [tool.redrive] app in pyproject.toml), "
    "or --broker sqlite:/path/to/file.db (or REDRIVE_BROKER)"
)


def loaded(name: str, app_dir: str) -> App[Any]:
    """Import an application; what its modules print goes to standard error.

    Raises:
        DeclarationError: If it cannot be imported.
    """
    from redrive.loading import load_app  # noqa: PLC0415 - `--help` does not need it

    try:
        with contextlib.redirect_stdout(sys.stderr):
            return load_app(name, app_dir)
    except RedriveError:
        raise
    except Exception as error:
        raise DeclarationError(
            f"application {name!r}",
            f"cannot be imported ({type(error).__name__}: {error})",
            "mend its module; `redrive --debug …` shows the traceback",
        ) from error


def _located(address: str) -> str:
    from redrive.connections import absolute  # noqa: PLC0415 - `--help` does not need it

    located = absolute(address, Path.cwd())
    _must_exist(located)
    return located


def _must_exist(address: str) -> None:
    from redrive.connections import file_of, has_file  # noqa: PLC0415 - `--help` does not need it

    if not has_file(address):
        return
    path = file_of(address)
    if not path.exists():
        raise DatabaseUnusable(str(path), "does not exist", "check the address, or start a worker, which makes it")
