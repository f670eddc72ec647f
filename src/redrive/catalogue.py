"""The catalogue: an entry in the store for every dead letter, written before the letter is.

Search, groups, edit and redrive read the catalogue on every broker, also where the broker cannot be browsed. A letter
that the broker's own backstop made dead has no entry; the intake gives it one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from redrive.clock import Clock
from redrive.errors import NewerRecord, VersionConflict
from redrive.message import FailureRecord, Message
from redrive.store import ABSENT, BODIES, LETTERS, Entry, Store

_log = logging.getLogger("redrive.catalogue")
_VERSION = 1
_KEPT_AFTERWARDS_MS = 14 * 24 * 3600 * 1000
DEAD, REDRIVEN, DISCARDED, GONE = "dead", "redriven", "discarded", "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter, as the catalogue knows it; its body is kept beside it."""

    id: str
    queue: str
    """The queue that it died in."""
    state: str
    """`dead`, `redriven`, `discarded`, or `gone` (nobody said how); all but the first are kept for 14 days."""
    died_at_ms: int
    sent_at_ms: int
    fingerprint: str
    record: FailureRecord
    attributes: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    size: int = 0
    """Bytes of the body."""
    audit: tuple[dict[str, Any], ...] = ()
    """Who did what and when: edits, redrives, discards."""
    version: int = ABSENT
    """The store's version of the entry."""

    def to_json(self) -> bytes:
        """The stored form."""
        document = {"v": _VERSION, **asdict(self), "record": self.record.to_document()}
        del document["version"]
        return json.dumps(document).encode("ascii")

    @classmethod
    def from_entry(cls, entry: Entry) -> Letter:
        """Read the stored form.

        Raises:
            NewerRecord: If a later version of redrive wrote it.
        """
        document = json.loads(entry.value)
        version = document.pop("v")
        if version > _VERSION:
            raise NewerRecord("letter", version, _VERSION)
        document["record"] = FailureRecord.from_document(document["record"])
        document["audit"] = tuple(document["audit"])
        return cls(**document, version=entry.version)


class Catalogue:
    """The dead letters of an application."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def enter(self, queue: str, message: Message, fingerprint: str) -> None:
        """Write the entry of a letter that is about to die; again after a crash, it is the same entry.

        The body goes first: a crash between the two leaves a body that nobody asks for and that is overwritten.
        """
        record = message.notes.failure
        assert record is not None  # noqa: S101 - a death always has a failure
        await self._write_body(queue, message)
        before = await self._find(queue, message.id)
        letter = Letter(
            id=message.id,
            queue=queue,
            state=DEAD,
            died_at_ms=self._clock.now_ms(),
            sent_at_ms=message.sent_at_ms,
            fingerprint=fingerprint,
            record=record,
            attributes=dict(message.attributes),
            group=message.group,
            size=len(message.body),
            audit=() if before is None else before.audit,
            version=ABSENT if before is None else before.version,
        )
        await self._write(letter)

    async def letters(self, queue: str, *, state: str | None = DEAD) -> AsyncIterator[Letter]:
        """A queue's letters by id, oldest sent first; `state` None: all of them."""
        prefix = f"{queue}/"
        after = prefix
        while True:
            entries = await self._store.scan(LETTERS, after=after, limit=200)
            for entry in entries:
                if not entry.key.startswith(prefix):
                    return
                try:
                    letter = Letter.from_entry(entry)
                except NewerRecord as error:
                    _log.warning("letter %s is left out: %s", entry.key, error)
                    continue
                if state is None or letter.state == state:
                    yield letter
            if not entries:
                return
            after = entries[-1].key

    async def letter(self, queue: str, message_id: str) -> Letter | None:
        """One letter, in whatever state."""
        return await self._find(queue, message_id)

    async def body(self, letter: Letter) -> bytes:
        """A letter's body."""
        parts = []
        number = 0
        while (entry := await self._store.get(BODIES, f"{letter.queue}/{letter.id}/{number}")) is not None:
            parts.append(entry.value)
            number += 1
        return b"".join(parts)[: letter.size]

    async def settle(self, letter: Letter, *, state: str, who: str, what: str, body: bytes | None = None) -> Letter:
        """Write what an operator did to a letter, edited body included; VersionConflict if somebody was faster.

        Raises:
            VersionConflict: If the letter changed since it was read.
        """
        action = self._action(who, what)
        if body is not None:
            action["body_before"] = base64.b64encode((await self.body(letter))[:4096]).decode()
        changed = _audited(replace(letter, state=state), action)
        version = await self._write(changed)
        await self._let_body_expire(letter)
        return replace(changed, version=version)

    async def note(self, letter: Letter, *, who: str, what: str) -> None:
        """Write what was done to a letter that stays as it is.

        Raises:
            VersionConflict: If the letter changed since it was read.
        """
        await self._write(_audited(letter, self._action(who, what)))

    def _action(self, who: str, what: str) -> dict[str, Any]:
        return {"at_ms": self._clock.now_ms(), "who": who, "what": what}

    async def _find(self, queue: str, message_id: str) -> Letter | None:
        entry = await self._store.get(LETTERS, f"{queue}/{message_id}")
        return None if entry is None else Letter.from_entry(entry)

    async def _write(self, letter: Letter) -> int:
        expires = None if letter.state == DEAD else self._clock.now_ms() + _KEPT_AFTERWARDS_MS
        return await self._store.put(
            LETTERS, f"{letter.queue}/{letter.id}", letter.to_json(), if_version=letter.version, expires_at_ms=expires
        )

    async def _let_body_expire(self, letter: Letter) -> None:
        """The body goes when the entry does; a crash before this leaves it for good, which costs only room."""
        expires = self._clock.now_ms() + _KEPT_AFTERWARDS_MS
        number = 0
        while (entry := await self._store.get(BODIES, f"{letter.queue}/{letter.id}/{number}")) is not None:
            with contextlib.suppress(VersionConflict):
                await self._store.put(BODIES, entry.key, entry.value, if_version=entry.version, expires_at_ms=expires)
            number += 1

    async def _write_body(self, queue: str, message: Message) -> None:
        size = self._store.max_value
        for number, start in enumerate(range(0, max(len(message.body), 1), size)):
            key = f"{queue}/{message.id}/{number}"
            part = message.body[start : start + size]
            before = await self._store.get(BODIES, key)
            await self._store.put(BODIES, key, part, if_version=ABSENT if before is None else before.version)


def _audited(letter: Letter, action: dict[str, Any]) -> Letter:
    return replace(letter, audit=(*letter.audit, action)[-50:])
