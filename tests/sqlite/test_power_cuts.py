"""The power goes at any moment: `full` loses nothing that was answered, `relaxed` the last; nothing is damaged."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import MappingProxyType

import pytest

from redrive.broker import Acknowledge, Outgoing, QueueSpec
from redrive.brokers.sqlite import SqliteBroker
from redrive.clock import SystemClock
from redrive.errors import BrokerError, OutcomeUnknown
from redrive.message import Message
from redrive.sqlite.database import connect
from redrive.sqlite.session import Session
from redrive.sqlite.writer import FileDatabase
from redrive.store import ABSENT, Namespace
from redrive.stores.sqlite import SqliteStore
from tests.sqlite.power import Disk, Event, Remove, Sync, Tape, Truncate, Write, recorded

QUEUE = "orders"
NUMBERS = Namespace(name="numbers", listable=True)
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody is about to acknowledge."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    number: int


def body_of(name: str) -> bytes:
    """Some pages for some, a few bytes for others."""
    return name.encode() * (1 + 700 * (len(name) % 2))


async def worked(database: FileDatabase, tape: Tape, who: str, chance: Random) -> None:
    """Three tasks that send, receive and acknowledge, and write entries; all that is answered is on the tape."""
    broker, store = SqliteBroker(database), SqliteStore(database)

    async def send() -> None:
        for number in range(ROUNDS):
            names = tuple(f"{who}{number:0{chance.randint(2, 3)}}-{one}" for one in range(chance.choice((1, 1, 4, 30))))
            messages = [Outgoing(message=Message(id=name, body=body_of(name), sent_at_ms=1)) for name in names]
            with contextlib.suppress(BrokerError):
                assert await broker.send(QUEUE, messages) == [None] * len(names)
                tape.tell(Sent(names))

    async def handle() -> None:
        for _ in range(ROUNDS):
            with contextlib.suppress(BrokerError):
                taken = await broker.receive(QUEUE, limit=chance.choice((1, 3, 10)), lease=3_600)
                names = tuple(one.message.id for one in taken)
                tape.tell(Asked(names))
                assert await broker.settle([Acknowledge(delivery=one) for one in taken]) == [None] * len(names)
                tape.tell(Acknowledged(names))

    async def put() -> None:
        version = ABSENT
        for number in range(ROUNDS):
            with contextlib.suppress(Exception):
                version = await store.put(NUMBERS, who, b"%d" % number, if_version=version)
                tape.tell(Put(who, number))

    await asyncio.gather(send(), handle(), put())


async def record(folder: Path, tape: Tape, chance: Random, writers: int, level: str = "full") -> None:
    """Some writers on one new file, from before it was made until their work is done."""
    path = str(folder / "p.db")
    with recorded(tape):
        databases = [FileDatabase(path, SystemClock(), durability=level) for _ in range(writers)]
        await SqliteBroker(databases[0]).declare([QueueSpec(name=QUEUE)])
        await asyncio.gather(
            *(worked(one, tape, chr(ord("a") + number), chance) for number, one in enumerate(databases))
        )
        for one in databases:
            await asyncio.to_thread(one.close)


@dataclass
class Told:
    """What callers were told until the power went."""

    sent: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)

    def see(self, fact: object) -> None:
        match fact:
            case Sent(names=names):
                self.sent.update(names)
            case Asked(names=names):
                self.asked.update(names)
            case Acknowledged(names=names):
                self.acknowledged.update(names)
            case Put(key=key, number=number):
                self.numbers[key] = number
            case _:
                raise AssertionError(fact)


def losses(folder: Path, told: Told) -> int:
    """How much of what was told is not so in the files; what is damaged is an error.

    Raises:
        AssertionError: If a row is not whole.
        RedriveError: If the database cannot be opened.
    """
    connection = connect(str(folder / "p.db"))
    try:
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        messages = dict(connection.execute("SELECT id, body FROM message"))
        numbers = dict(connection.execute("SELECT key, CAST(value AS TEXT) FROM entry WHERE namespace = 'numbers'"))
    finally:
        connection.close()
    assert all(body == body_of(name) for name, body in messages.items())
    lost = told.sent - told.asked - messages.keys()
    back = told.acknowledged & messages.keys()
    old = [key for key, number in told.numbers.items() if int(numbers.get(key, "-1")) < number]
    return len(lost) + len(back) + len(old)


def cuts(tape: Tape, chance: Random, count: int) -> Iterator[int]:
    """Cut the power at so many moments of the tape, one by one; what each of them lost."""
    moments = sorted(chance.randrange(len(tape.events)) for _ in range(count))
    disk, told, seen = Disk(chance), Told(), 0
    for moment in moments:
        for event in tape.events[seen:moment]:
            if isinstance(event, Event):
                disk.see(event)
            else:
                told.see(event)
        seen = moment
        with tempfile.TemporaryDirectory(prefix="r-") as name:
            disk.cut(Path(name))
            yield losses(Path(name), told)


@dataclass
class Trial:
    """What many cuts lost."""

    cuts: int = 0
    with_losses: int = 0
    damaged: list[str] = field(default_factory=list)


async def tried(folder: Path, level: str, seeds: Sequence[int], each: int, *, fails: bool = False) -> Trial:
    """So many cuts of a new recording for each seed; with `fails`, a sync fails now and then while it is recorded."""
    trial = Trial()
    for seed in seeds:
        chance = Random(seed)  # noqa: S311 - repeatable on purpose
        tape = Tape((lambda number: number > 40 and number % 13 == 0) if fails else (lambda _: False))
        here = folder / f"{seed}"
        here.mkdir()
        await record(here, tape, chance, writers=1 + seed % 2, level=level)
        left = cuts(tape, chance, each)
        while True:
            try:
                lost = next(left)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the database is not whole
                trial.damaged.append(repr(error))
                break
            trial.cuts += 1
            trial.with_losses += lost > 0
        shutil.rmtree(here)
    return trial


@pytest.fixture(autouse=True)
def short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every few commits, so that cuts meet them."""
    monkeypatch.setattr("redrive.sqlite.log.LONG", 12)


async def test_full_loses_nothing(short_path: Path) -> None:
    """400 cuts, half of them with two writers on the file: all that was answered is there, and whole."""
    trial = await tried(short_path, "full", range(8), 50)
    assert (trial.damaged, trial.with_losses, trial.cuts) == ([], 0, 400)


async def test_relaxed_loses_the_last_and_damages_nothing(short_path: Path) -> None:
    """It says so: what was answered shortly before may be gone, what is there is whole."""
    trial = await tried(short_path, "relaxed", range(100, 104), 25)
    assert trial.damaged == []
    assert 0 < trial.with_losses <= trial.cuts == 100


async def test_without_syncs_these_cuts_find_damage(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that cannot fail shows nothing: with `synchronous=OFF` it does."""
    monkeypatch.setattr("redrive.sqlite.database.DURABILITY", MappingProxyType({"full": "OFF"}))
    trial = await tried(short_path, "full", range(200, 206), 10)
    assert trial.damaged


async def test_a_sync_that_failed_costs_nothing_that_was_answered(short_path: Path) -> None:
    """The system forgets what it could not write and says so once; later syncs succeed, and would hide the hole."""
    trial = await tried(short_path, "full", range(300, 306), 25, fails=True)
    assert (trial.damaged, trial.with_losses, trial.cuts) == ([], 0, 150)


def sent(session: Session, tape: Tape, name: str) -> Exception | None:
    """Send one message; what it was refused with."""
    message = Outgoing(message=Message(id=name, body=body_of(name), sent_at_ms=1))
    (outcome,) = session.run([lambda tables: tables.engine.send(QUEUE, [message], tables.now_ms)])
    if outcome.error is None:
        tape.tell(Sent((name,)))
    return outcome.error


def after_a_failed_sync(folder: Path, tape: Tape, *, killed: bool) -> None:
    """A commit's sync fails and so does the next one; then it goes on in the same process, or in another."""
    path = str(folder / "p.db")
    with recorded(tape):
        session = Session(path, SystemClock())
        session.take_up_time(others=False)
        session.run([lambda tables: tables.engine.declare([QueueSpec(name=QUEUE)], tables.now_ms)])
        assert sent(session, tape, "m1") is None
        tape.failing = 2  # of the commit, and of the checkpoint that closing would have made: the log stays
        assert isinstance(sent(session, tape, "m2"), OutcomeUnknown)
        if killed:
            session.close()
            session = Session(path, SystemClock())
            session.take_up_time(others=False)
        assert sent(session, tape, "m3") is None
        session.close()


def cut_after(tape: Tape, name: str) -> int:
    """How many of a hundred cuts at the moment when the message was answered lose something."""
    lost, moment = 0, tape.events.index(Sent((name,))) + 1
    for seed in range(100):
        disk, told = Disk(Random(seed)), Told()  # noqa: S311 - repeatable on purpose
        for event in tape.events[:moment]:
            disk.see(event) if isinstance(event, Event) else told.see(event)
        with tempfile.TemporaryDirectory(prefix="r-") as folder:
            disk.cut(Path(folder))
            lost += losses(Path(folder), told) > 0
    return lost


@pytest.mark.parametrize("killed", [False, True], ids=["opened anew", "killed and started again"])
def test_nothing_is_added_to_a_log_whose_sync_failed(short_path: Path, killed: bool) -> None:  # noqa: FBT001
    """What is answered after it survives the cut."""
    tape = Tape()
    after_a_failed_sync(short_path, tape, killed=killed)
    assert cut_after(tape, "m3") == 0


@pytest.mark.parametrize("killed", [False, True], ids=["opened anew", "killed and started again"])
def test_if_something_were_added_it_would_be_lost(
    short_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed: bool,  # noqa: FBT001
) -> None:
    """Behind the hole that the failed sync left: a trial that cannot fail shows nothing."""
    monkeypatch.setattr(Session, "_empty_log", lambda *_: None)
    tape = Tape()
    after_a_failed_sync(short_path, tape, killed=killed)
    assert cut_after(tape, "m3") > 10


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("level", "fails"), [("full", False), ("relaxed", False), ("full", True)])
async def test_20_000_cuts(short_path: Path, level: str, fails: bool) -> None:  # noqa: FBT001
    """The same, longer; the figures are printed."""
    count = 20_000 if not fails else 5_000
    trial = await tried(short_path, level, range(1_000, 1_000 + count // 100), 100, fails=fails)
    print(f"\n{level}, syncs that fail: {fails}: {trial.with_losses} of {trial.cuts} cuts lost what was answered")  # noqa: T201
    assert trial.damaged == []
    assert trial.cuts == count
    if level == "full":
        assert trial.with_losses == 0


def test_a_cut_leaves_what_was_synced(tmp_path: Path) -> None:
    """And by chance the rest: whole, missing or torn at sectors."""
    seen = set()
    for seed in range(300):
        disk = Disk(Random(seed))  # noqa: S311 - repeatable on purpose
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        for event in (Write("a", 0, b"1" * 1024), Sync("a"), Write("a", 0, b"2" * 1024), Write("b", 0, b"x")):
            disk.see(event)
        disk.cut(folder)
        content = (folder / "a").read_bytes()
        assert len(content) == 1024
        seen.add((content[0:1] * 512 == content[:512], content[512:513] * 512 == content[512:], content[::512]))
    assert seen == {(True, True, one) for one in (b"11", b"12", b"21", b"22")}


def test_what_was_not_synced_may_be_there_or_not(tmp_path: Path) -> None:
    """A file that was removed or shortened, too."""
    found = set()
    for seed in range(100):
        disk = Disk(Random(seed))  # noqa: S311 - repeatable on purpose
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        for event in (Write("a", 0, b"1234"), Sync("a"), Truncate("a", 2), Write("b", 0, b"5"), Sync("b"), Remove("b")):
            disk.see(event)
        disk.cut(folder)
        found.add(((folder / "a").read_bytes(), (folder / "b").exists()))
    assert found == {(content, there) for content in (b"1234", b"12") for there in (True, False)}
