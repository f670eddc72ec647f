"""Power cuts: every write to a database is recorded, and its files are made as a cut at some moment leaves them.

What was synced is there. Of what was not, each write may be there, missing, or torn: any of its sectors of 512 bytes,
in any order with others. A cut truncation or removal may have happened or not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Write:
    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Remove:
    file: str


@dataclass(frozen=True, slots=True)
class Sync:
    file: str
    failed: bool = False
    """The system said so, and has forgotten what it did not write: it will not try again."""


Event = Write | Truncate | Remove | Sync


class Tape:
    """What was done to the files, in the order in which it was, and what callers were told in between."""

    def __init__(self, fails: Callable[[int], bool] = lambda _: False) -> None:
        self.events: list[Event | object] = []
        self.lock = threading.Lock()
        self.syncs = self.failing = 0
        """So many of the next syncs fail."""
        self._fails = fails

    def tell(self, fact: object) -> None:
        """A caller was told something, or asks for something."""
        with self.lock:
            self.events.append(fact)

    def do(self, event: Event, really: Callable[[], None]) -> None:
        with self.lock:
            really()
            self.events.append(event)

    def sync(self, file: str, really: Callable[[], None]) -> None:
        with self.lock:
            self.syncs += 1
            failed = self._fails(self.syncs) or self.failing > 0
            self.failing = max(0, self.failing - 1)
            self.events.append(Sync(file, failed))
            if failed:
                raise apsw.IOError
            really()


class _File(apsw.VFSFile):
    def __init__(self, tape: Tape, name: Any, flags: list[int]) -> None:
        self._tape = tape
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path or "temporary").name
        super().__init__("unix", name, flags)

    def excepthook(self, *_: object) -> bool:
        """A sync that failed is meant to."""
        return True

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - SQLite's names, here and below
        kept = bytes(data)
        self._tape.do(Write(self._name, offset, kept), lambda: super(_File, self).xWrite(data, offset))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._tape.do(Truncate(self._name, newsize), lambda: super(_File, self).xTruncate(newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._tape.sync(self._name, lambda: super(_File, self).xSync(flags))


class _Recorder(apsw.VFS):
    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        super().__init__("recorder", "unix", makedefault=True)

    def excepthook(self, *_: object) -> bool:
        """A sync that failed is meant to."""
        return True

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self._tape, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802, FBT001
        self._tape.do(Remove(Path(filename).name), lambda: super(_Recorder, self).xDelete(filename, syncdir))


@contextmanager
def recorded(tape: Tape) -> Iterator[None]:
    """Every database that this process opens meanwhile is on the tape; its files must be closed before the end."""
    recorder = _Recorder(tape)
    try:
        yield
    finally:
        recorder.unregister()


@dataclass
class Disk:
    """What is on the disk for sure, and what has not been synced yet."""

    random: Random
    sure: dict[str, bytearray] = field(default_factory=dict)
    waiting: dict[str, list[Event]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Logs and journals whose first sync took their folder with it."""

    def see(self, event: Event) -> None:
        """Take note of what was done."""
        if not isinstance(event, Sync):
            self.waiting.setdefault(event.file, []).append(event)
            return
        if not event.failed:
            self._sync_folder(event.file)
        done = self.waiting.pop(event.file, [])
        if event.failed:
            self._by_chance(self.sure, event.file, done)
            return
        for one in done:
            _apply(self.sure, one)

    def cut(self, folder: Path) -> None:
        """Make the files as they are when the power goes now."""
        files = {name: bytearray(content) for name, content in self.sure.items()}
        for name, events in self.waiting.items():
            self._by_chance(files, name, events)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def _sync_folder(self, name: str) -> None:
        """SQLite syncs the folder with the first sync of a new log or journal: what was removed stays removed."""
        if name in self.named or "-" not in name:
            return
        self.named.add(name)
        for other, events in self.waiting.items():
            removals = [number for number, event in enumerate(events) if isinstance(event, Remove)]
            if removals:
                self.sure.pop(other, None)
                self.named.discard(other)
                self.waiting[other] = events[removals[-1] + 1 :]

    def _by_chance(self, files: dict[str, bytearray], name: str, events: list[Event]) -> None:
        """As much of it as chance will have; a removal that did not happen means that what came after did not."""
        chance = self.random
        lazy = chance.random()
        for event in events:
            if isinstance(event, Write):
                self._written_by_chance(files.setdefault(name, bytearray()), event, lazy)
            elif chance.random() < 0.5:
                _apply(files, event)
            elif isinstance(event, Remove):
                return

    def _written_by_chance(self, content: bytearray, write: Write, lazy: float) -> None:
        if self.random.random() < lazy:
            return
        torn = self.random.random() < 0.5
        start, end = write.offset, write.offset + len(write.data)
        while start < end:
            stop = min(end, (start // SECTOR + 1) * SECTOR)
            if not torn or self.random.random() < 0.5:
                _put(content, start, write.data[start - write.offset : stop - write.offset], self.random)
            start = stop


def _apply(files: dict[str, bytearray], event: Event) -> None:
    match event:
        case Write(file=file, offset=offset, data=data):
            _put(files.setdefault(file, bytearray()), offset, data, None)
        case Truncate(file=file, size=size):
            del files.setdefault(file, bytearray())[size:]
        case Remove(file=file):
            files.pop(file, None)
        case Sync():
            pass


def _put(content: bytearray, offset: int, data: bytes, chance: Random | None) -> None:
    """What was never written between the end of the file and here is zeros, or noise."""
    gap = offset - len(content)
    if gap > 0:
        content += chance.randbytes(gap) if chance is not None and chance.random() < 0.5 else bytes(gap)
    content[offset : offset + len(data)] = data
