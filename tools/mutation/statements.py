"""Mutation testing of the engine's SQL: every statement with every small fault in it, and whether a test notices.

    python -m tools.mutation.statements [--only engine.receive] [--json FILE]

Each mutant runs in a process of its own, forked from one that has imported everything, and only against the tests
that use its statement, the quickest first. What no test notices is printed; the score is noticed ÷ all, less what
`equivalents.txt` lists with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import apsw
import pytest
from tools.mutation.equivalents import equivalents
from tools.mutation.sql import Mutant, mutants

from redrive.sqlite.database import MEMORY, connect
from redrive.sqlite.rows import RAW, RECEIVED
from redrive.sqlite.statements import named

FILES = ("engine", "lines", "tenants", "deduplication", "queues", "move_tasks", "entries")
OPTIONS = ("-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--assert=plain")
PATIENCE = 60
"""Seconds after which a mutant that does not end counts as noticed."""
ENOUGH = 0.85


class Used(dict[str, str]):
    """The statements of a module, which note who uses them."""

    def __init__(self, file: str, statements: dict[str, str], users: Users) -> None:
        super().__init__(statements)
        self._file, self._users = file, users

    def __getitem__(self, name: str) -> str:
        self._users.note(f"{self._file}.{name}")
        return super().__getitem__(name)


class Users:
    """A pytest plugin that learns which test uses which statement, and how long each takes."""

    def __init__(self) -> None:
        self.of: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self._now = ""

    def note(self, statement: str) -> None:
        """The test that runs now uses it."""
        self.of[statement].add(self._now)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """From its set-up to its tear-down, a test is the one that runs."""
        self._now, begun = item.nodeid, time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - begun

    def quickest_first(self, statement: str) -> list[str]:
        """The tests that use a statement."""
        return sorted(self.of[statement] - {""}, key=lambda test: self.seconds[test])


def main() -> int:
    """Run all mutants; the exit code tells whether enough of them were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="statements whose name begins like this")
    parser.add_argument("--json", type=Path, help="where to put the outcome of each mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    users = learn()
    valid = [one for one in all_mutants() if one.statement.startswith(asked.only)]
    print(f"{len(valid)} mutants of {len({one.statement for one in valid})} statements", flush=True)
    outcomes = dict(zip(valid, run(valid, users, asked.jobs), strict=True))
    if asked.json:
        document = [{"statement": one.statement, "change": one.change, "noticed": outcomes[one]} for one in valid]
        asked.json.write_text(json.dumps(document, indent=1))
    return report(outcomes)


def tests() -> list[str]:
    """Those of the engine, as `[tool.mutmut]` has them for the Python modules: said once."""
    chosen = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    return [path for path in chosen["pytest_add_cli_args_test_selection"] if "/pure" not in path]


def modules() -> dict[str, ModuleType]:
    """The module that has the statements of each file."""
    return {file: importlib.import_module(f"redrive.sqlite.{file}") for file in FILES}


def filled(sql: str) -> str:
    """A statement as its module has it."""
    return sql.replace("{RECEIVED}", RECEIVED).replace("{RAW}", RAW)


def all_mutants() -> list[Mutant]:
    """Those of every statement that SQLite accepts."""
    connection = connect(MEMORY)
    found = []
    for file in FILES:
        for name, sql in named(f"{file}.sql").items():
            found += [one for one in mutants(f"{file}.{name}", sql) if is_accepted(connection, filled(one.sql))]
    connection.close()
    return found


def is_accepted(connection: apsw.Connection, sql: str) -> bool:
    """Whether SQLite understands it."""
    try:
        connection.execute(sql, can_cache=False, bindings=Anything())
    except apsw.SQLError:
        return False
    except apsw.Error:
        return True
    return True


class Anything(dict[str, None]):
    """NULL for every parameter: a statement on an empty database does no harm."""

    def __missing__(self, name: str) -> None:
        return None


def learn() -> Users:
    """Run all tests once, unbroken; what they use."""
    users = Users()
    for file, module in modules().items():
        module._SQL = Used(file, module._SQL, users)  # type: ignore[attr-defined]  # noqa: SLF001
    with quiet():
        failed = pytest.main([*OPTIONS, *tests()], plugins=[users])
    if failed:
        sys.exit("the tests fail without any mutant; run them first")
    return users


def run(valid: list[Mutant], users: Users, jobs: int) -> list[bool]:
    """Whether each mutant was noticed; so many at a time."""
    noticed: dict[int, bool] = {}
    running: dict[int, int] = {}
    waiting = list(enumerate(valid))[::-1]
    while waiting or running:
        while waiting and len(running) < jobs:
            number, one = waiting.pop()
            using = users.quickest_first(one.statement)
            if using:
                running[start(one, using)] = number
            else:
                noticed[number] = False
        if running:
            child, status = os.wait()
            noticed[running.pop(child)] = status != 0
        if sys.stderr.isatty():
            print(f"\r{len(noticed)} of {len(valid)}", end="", file=sys.stderr)
    return [noticed[number] for number in range(len(valid))]


def start(mutant: Mutant, using: list[str]) -> int:
    """A process that ends with 0 when the tests pass in spite of the fault."""
    child = os.fork()
    if child:
        return child
    signal.alarm(PATIENCE)
    file, _, name = mutant.statement.partition(".")
    modules()[file]._SQL[name] = filled(mutant.sql)  # noqa: SLF001
    status = 1
    with quiet(), contextlib.suppress(BaseException):
        status = int(pytest.main([*OPTIONS, *using]))
    os._exit(0 if status == 0 else 1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What pytest says is of no interest."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def report(outcomes: dict[Mutant, bool]) -> int:
    """Say what came of it, file by file, and what nobody noticed."""
    known = equivalents()
    same = {one for one, noticed in outcomes.items() if not noticed and (one.statement, one.change) in known}
    for one, noticed in outcomes.items():
        if not (noticed or one in same):
            print(f"not noticed: {one.statement} | {one.change}")
    for file in FILES:
        told = [
            noticed for one, noticed in outcomes.items() if one.statement.startswith(f"{file}.") and one not in same
        ]
        if told:
            print(f"{file}.sql: {sum(told)} of {len(told)} noticed ({sum(told) / len(told):.1%})")
    told = [noticed for one, noticed in outcomes.items() if one not in same]
    score = sum(told) / max(1, len(told))
    print(f"SQL: {sum(told)} of {len(told)} noticed ({score:.1%}), {len(same)} more do the same as the original")
    return 0 if score >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
