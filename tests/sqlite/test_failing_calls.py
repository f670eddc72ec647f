"""Any call to the system may fail: nothing is answered that did not happen, and nothing refused that did.

A workload runs under `strace`, which lets the n-th call of a kind on the database's files fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from redrive.sqlite.database import connect
from tests.sqlite.workload import body_of

DEADLINE = 60.0
ROUNDS = 12
AT_ONCE = 3
KINDS = [
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EINTR"),
    ("fdatasync,fsync", "EIO"),
    ("fdatasync,fsync", "EINTR"),
    ("fdatasync,fsync", "ENOSPC"),
    ("ftruncate", "EIO"),
    ("pread64", "EIO"),
    ("openat", "EIO"),
    ("openat", "EMFILE"),
    ("flock", "ENOLCK"),
    ("fcntl", "EIO"),
]
SURE = {"BrokerUnavailable", "DatabaseUnusable", "DiskNearlyFull"}
"""What says that nothing happened."""
PLAIN = {*SURE, "OutcomeUnknown", "StoreUnavailable"}


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    works = shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False)
    if not works or works.returncode:
        missing = "no strace here that may trace; Debian's package `strace` has one"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="r-") as name:
        yield Path(name)


@dataclass
class Said:
    """What a workload was answered and refused, and what it asked."""

    asked: dict[str, set[str]] = field(default_factory=dict)
    answered: dict[str, set[str]] = field(default_factory=dict)
    nothing: dict[str, set[str]] = field(default_factory=dict)
    """Refused with the word that nothing happened."""
    errors: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """Which of its calls, for whatever reason."""
    wrong: list[str] = field(default_factory=list)
    ended: bool = False

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Said:
        said = cls()
        for line in lines:
            fact = json.loads(line)
            names = fact.get("names", [])
            said._note(said.asked, fact.get("ask"), names)
            said._note(said.answered, fact.get("answered"), names)
            if "refused" in fact:
                said.errors.add(fact["error"])
                said.refused.add(fact["refused"])
                said._note(said.nothing, fact["refused"] if fact["error"] in SURE else None, names)
            said.wrong += [fact["wrong"]] if "wrong" in fact else []
            said.ended = said.ended or "closed" in fact or fact.get("refused") == "open"
        return said

    @staticmethod
    def _note(where: dict[str, set[str]], what: str | None, names: list[str]) -> None:
        if what is not None:
            where.setdefault(what, set()).update(names)


async def worked(folder: Path, inject: str) -> tuple[Said, int]:
    """Run the workload on a new file while calls fail; what it said, and how many did."""
    path, trace = folder / "a.db", folder / "trace"
    files = [folder, path, *(Path(f"{path}-{beside}") for beside in ("wal", "shm", "journal", "lock", "next"))]
    only = [word for file in files for word in ("-P", str(file))]
    what = inject.partition(":")[0]
    command = ["strace", "-f", "-qq", "-o", str(trace), *only, "-e", f"trace={what}", "-e", f"inject={inject}"]
    script = str(Path(__file__).with_name("workload.py"))
    run = [*command, sys.executable, script, str(path), str(ROUNDS)]
    process = await asyncio.create_subprocess_exec(*run, stdout=PIPE, stderr=PIPE, start_new_session=True)
    try:
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err, err.decode()
    return Said.of(out.splitlines()), trace.read_text().count("(INJECTED)")


def stored(path: Path) -> tuple[set[str], set[str]]:
    """Messages and entries that are whole."""
    connection = connect(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    messages = dict(connection.execute("SELECT id, body FROM message"))
    entries = {value.decode() for (value,) in connection.execute("SELECT value FROM entry WHERE namespace = 'numbers'")}
    connection.close()
    assert all(body == body_of(name) for name, body in messages.items())
    return set(messages), entries


async def check(folder: Path, inject: str) -> int:
    """How many calls failed, after nothing was found wrong."""
    await asyncio.to_thread(folder.mkdir)
    said, failed = await worked(folder, inject)
    messages, entries = stored(folder / "a.db")
    none: set[str] = set()
    sent, acknowledged = said.answered.get("send", none), said.answered.get("acknowledge", none)
    assert said.ended, inject
    without_a_queue = {"QueueNotFound"} if "declare" in said.refused else none
    assert said.errors <= PLAIN | without_a_queue, (inject, said.errors)
    assert not said.wrong, (inject, said.wrong)
    assert sent - said.asked.get("acknowledge", none) <= messages, f"{inject}: answered, and not there"
    assert not acknowledged & messages, f"{inject}: acknowledged, and there"
    assert said.answered.get("put", none) <= entries, f"{inject}: entries answered, and not there"
    assert not said.nothing.get("send", none) & messages, f"{inject}: refused, and there"
    kept = said.nothing.get("acknowledge", none) - acknowledged
    assert kept <= messages, f"{inject}: refused to acknowledge, and gone"
    shutil.rmtree(folder)
    return failed


async def checked(folder: Path, injections: Sequence[str]) -> int:
    """All of them, some at a time; how many calls failed."""
    waiting, failed = iter(enumerate(injections)), 0

    async def some() -> None:
        nonlocal failed
        for number, inject in waiting:
            failed += await check(folder / f"{number}", inject)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return failed


@pytest.mark.parametrize(("call", "error"), KINDS)
async def test_the_nth_call_fails(folder: Path, call: str, error: str) -> None:
    """Once: while it is opened, in a transaction, at its commit, in a checkpoint."""
    random = Random(f"{error} of {call}")  # noqa: S311 - repeatable on purpose
    most = {"openat": 8, "ftruncate": 9, "fdatasync,fsync": 70, "pread64": 80}.get(call, 200)
    numbers = sorted(random.sample(range(1, most), 3))
    assert await checked(folder, [f"{call}:error={error}:when={number}" for number in numbers]) > 0


@pytest.mark.parametrize(
    ("call", "error", "first"),
    [("pwrite64", "EIO", (200, 301)), ("pwrite64", "ENOSPC", (200, 301)), ("fdatasync,fsync", "EIO", (40, 61))],
)
async def test_a_disk_that_died_answers_nothing_falsely(
    folder: Path, call: str, error: str, first: tuple[int, int]
) -> None:
    """From some call on each one fails: every call is refused in plain words, none is left without an answer."""
    assert await checked(folder, [f"{call}:error={error}:when={number}+" for number in first]) > 10


@pytest.mark.parametrize(
    ("call", "error", "when"),
    [
        ("pwrite64", "EIO", ("200+61", "211+47")),
        ("pwrite64", "ENOSPC", ("200+67", "211+41")),
        ("fdatasync,fsync", "EIO", ("20+7", "23+11")),
        ("pread64", "EIO", ("60+13", "50+19")),
    ],
)
async def test_a_disk_that_fails_now_and_then(folder: Path, call: str, error: str, when: tuple[str, str]) -> None:
    """It is opened anew again and again, and goes on in between."""
    assert await checked(folder, [f"{call}:error={error}:when={one}" for one in when]) > 3


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("call", "error"), KINDS)
async def test_each_of_the_first_calls_fails(folder: Path, call: str, error: str) -> None:
    """Every one of sixty, one after the other."""
    most = {"openat": 9, "ftruncate": 9}.get(call, 61)
    step = {"pwrite64": 5, "fcntl": 5, "flock": 3}.get(call, 1)
    numbers = range(1, 1 + most * step, step)
    assert await checked(folder, [f"{call}:error={error}:when={number}" for number in numbers]) > 0
