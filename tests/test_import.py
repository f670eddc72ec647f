"""`import redrive` costs little, reads no environment and does no I/O of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import redrive

HEAVY = {
    "apsw",
    "click",
    "httpx",
    "jsonschema_rs",
    "pydantic",
    "pydantic_core",
    "pytest",
    "rich",
    "starlette",
    "uvicorn",
}
BUDGET = 0.150
"""Seconds of processor time, over what Python itself needs to start."""


def run(code: str, **environment: str) -> str:
    process = subprocess.run(
        [sys.executable, "-B", "-c", code],  # or a first run would write its byte code
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, **environment},
    )
    return process.stdout


def test_nothing_heavy_is_imported() -> None:
    """Clients, types and tables are imported when the first is needed."""
    loaded = json.loads(run("import redrive, sys, json; print(json.dumps(sorted(sys.modules)))"))
    assert not {name.partition(".")[0] for name in loaded} & HEAVY


def test_the_environment_is_not_read() -> None:
    """An application reads it when it is opened, so that importing one never depends on it."""
    code = """
import os, sys
import asyncio, importlib.resources, json, logging, random  # whatever they read is Python's business
class Watched(type(os.environ)):
    def __getitem__(self, key):
        print(key)
        return super().__getitem__(key)
os.environ.__class__ = Watched
os.getenv = lambda key, default=None: print(key)
import redrive
app = redrive.App("coffee")
"""
    read = run(code, REDRIVE_BROKER="nonsense://", REDRIVE_APP="no.such:app").split()
    assert [name for name in read if name.startswith("REDRIVE")] == []


def test_importing_opens_nothing() -> None:
    """No file is written, no socket made, no thread or process started."""
    code = """
import sys, json
seen = []
def hook(event, arguments):
    if event in {"socket.__new__", "subprocess.Popen", "os.fork", "_thread.start_new_thread", "sqlite3.connect"}:
        seen.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        if not str(arguments[0]).endswith(".pyc") and "__pycache__" not in str(arguments[0]):
            seen.append(str(arguments[0]))
sys.addaudithook(hook)
import redrive
app = redrive.App("coffee", broker="sqlite:coffee.db")
print(json.dumps(seen))
"""
    assert json.loads(run(code)) == []


def test_importing_is_quick() -> None:
    """In processor time, the best of five, so that a busy machine is no reason to fail."""
    code = "import time; began = time.process_time(); import redrive; print(time.process_time() - began)"
    took = min(float(run(code)) for _ in range(5))
    assert took < BUDGET, f"importing redrive took {took:.3f} s"


def test_the_surface_is_what_it_says() -> None:
    """Every name of `__all__` is there, and they are in order."""
    assert redrive.__all__ == sorted(redrive.__all__)
    for name in redrive.__all__:
        assert getattr(redrive, name) is not None
