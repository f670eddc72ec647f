"""Sagas: say how an instance that needs a person goes on.

Every change is made on the journal that was read, and written only if that still stands; then a wake-up is sent. A
crash in between costs half a minute: the journal says that it is due, and the waker sends another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from redrive.broker import Outgoing
from redrive.catalogue import DEAD, Letter
from redrive.errors import BrokerError, OperationRefused, PayloadError, VersionConflict
from redrive.message import message_id
from redrive.operations.ground import Checked
from redrive.operations.letters import LetterOperations
from redrive.operations.saga_looks import SagaLooks
from redrive.operations.saga_views import SagaView, saga_view
from redrive.payload import check_json
from redrive.sagas import deeds
from redrive.sagas.journal import Deed, Journal, State
from redrive.sagas.signals import leave_signal
from redrive.sagas.waking import INSTANCE, wake_up
from redrive.store import SAGAS

_log = logging.getLogger("redrive.saga")
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaDone:
    """What came of a change."""

    saga: SagaView
    """As it stands afterwards."""
    woken: bool = False
    """Whether a wake-up was sent."""
    letter: str | None = None
    """The id of its dead letter, which was discarded."""
    letter_left: str | None = None
    """Why its dead letter is still there; None: it is not, or there was none."""
    checked: Checked | None = None
    """How a new input was checked."""
    step: str | None = None
    """The key of the step whose undo was skipped: its effect stays."""


class SagaOperations(SagaLooks):
    """Sagas: look at instances, and say how one that needs a person goes on."""

    async def retry(self, queue: str, identity: str, *, reason: str = "", dry_run: bool = False) -> SagaDone:
        """Let a stuck instance go on where it was left, or one whose worker was lost be taken up; its letter goes.

        Raises:
            OperationRefused: If it goes on by itself, or has ended.
        """
        deed = self._deed("retry", reason)
        return await self._gone_on(queue, identity, lambda journal: deeds.retry(journal, deed), dry_run=dry_run)

    async def skip(self, queue: str, identity: str, step: str, *, reason: str, dry_run: bool = False) -> SagaDone:
        """Leave the effect of one step as it is, and go on with the undo of the others.

        Args:
            queue: the saga's.
            identity: the instance's id.
            step: its key, `name/call`, or its name if that says which.
            reason: why, for whoever looks later.
            dry_run: say what would come of it, and write nothing.

        Raises:
            OperationRefused: If there is nothing to undo there, or an undo may be running now.
        """
        keys: list[str] = []

        def change(journal: Journal) -> None:
            record = deeds.step_named(journal, step)
            key = journal.key_of(record)
            deeds.skip(journal, step, self._deed(f"skip {key}", reason))
            keys.append(key)

        done = await self._gone_on(queue, identity, change, dry_run=dry_run)
        return replace(done, step=keys[-1])

    async def cancel(self, queue: str, identity: str, *, reason: str = "", dry_run: bool = False) -> SagaDone:
        """Have undone what was done: at once, or when the attempt that runs has ended.

        Raises:
            OperationRefused: If it is past its point of no return, is being undone, or has ended.
        """
        deed = self._deed("cancel", reason)
        return await self._gone_on(queue, identity, lambda journal: deeds.cancel(journal, deed), dry_run=dry_run)

    async def resume(
        self, queue: str, identity: str, body: bytes, *, reason: str = "", dry_run: bool = False
    ) -> SagaDone:
        """Let a stuck instance go on forward with another input.

        Raises:
            PayloadError: If it does not fit the queue.
            OperationRefused: If the instance is not stuck, or is being undone.
        """
        checked = await self.check(queue, body)
        input_, deed = check_json(queue, body), self._deed(deeds.RESUME, reason)
        done = await self._gone_on(
            queue, identity, lambda journal: deeds.resume(journal, input_, deed), dry_run=dry_run
        )
        return replace(done, checked=checked)

    async def signal(
        self,
        queue: str,
        identity: str,
        name: str,
        value: Any = None,  # noqa: ANN401 - JSON
        *,
        dry_run: bool = False,
    ) -> SagaDone:
        """Send a signal to an instance; one that does not wait for it yet takes it when it does.

        Raises:
            OperationRefused: If there is no such instance, or it has ended.
            NotKept: If the value is too large, or the name cannot be one.
        """
        deed = self._deed(f"signal {name}")
        foreseen = await self._changed(queue, identity, lambda journal: deeds.signal(journal, deed), dry_run=True)
        if dry_run:
            return SagaDone(saga=saga_view(foreseen), woken=foreseen.woken_at_ms == deed.at_ms)
        unique = message_id(deed.at_ms, self._random.randbytes(10))
        await leave_signal(
            self._store, self._clock, saga=queue, instance=identity, name=name, value=value, unique=unique
        )
        journal = await self._changed(queue, identity, lambda journal: deeds.signal(journal, deed))
        woken = journal.woken_at_ms == deed.at_ms and await self._wake(journal)
        return SagaDone(saga=saga_view(journal), woken=woken)

    async def _gone_on(
        self, queue: str, identity: str, change: Callable[[Journal], object], *, dry_run: bool
    ) -> SagaDone:
        """Change a journal; then send a wake-up, and discard the letter of what was stuck."""
        before: list[tuple[State, Any]] = []

        def changed(journal: Journal) -> None:
            before.append((journal.state, journal.input))
            change(journal)

        journal = await self._changed(queue, identity, changed, dry_run=dry_run)
        woken = journal.owner is None
        state, input_ = before[-1]
        letter = await self._letter_of(journal, input_) if state is State.STUCK else None
        left = None
        if not dry_run:
            woken = woken and await self._wake(journal)
            left = None if letter is None else await self._discarded(letter)
        return SagaDone(
            saga=saga_view(journal),
            woken=woken,
            letter=None if letter is None else letter.id,
            letter_left=left,
        )

    async def _changed(
        self, queue: str, identity: str, change: Callable[[Journal], object], *, dry_run: bool = False
    ) -> Journal:
        """Change a journal as it stands: read, change, and write it if it still stands."""
        for left in reversed(range(_TRIES)):
            entry = await self._entry(queue, identity)
            journal = Journal.from_json(entry.value)
            change(journal)
            journal.changed_at_ms = self._clock.now_ms()
            if dry_run:
                return journal
            try:
                await self._store.put(
                    SAGAS, entry.key, journal.to_json(), if_version=entry.version, due_at_ms=journal.due_at_ms()
                )
            except VersionConflict:
                if not left:
                    raise
            else:
                return journal
        raise AssertionError  # the last try returned or raised

    async def _wake(self, journal: Journal) -> bool:
        """Send a wake-up; where that fails, the waker sends one in half a minute."""
        message = wake_up(journal, clock=self._clock, random=self._random)
        try:
            (error,) = await self._broker.send(journal.saga, [Outgoing(message=message)])
        except BrokerError as problem:
            error = problem
        if isinstance(error, BrokerError):
            _log.warning("saga %s of %s is woken in half a minute: %s", journal.id, journal.saga, error)
        return not isinstance(error, BrokerError)

    async def _letter_of(self, journal: Journal, input_: Any) -> Letter | None:  # noqa: ANN401 - JSON
        """The dead letter of an instance that was stuck: its wake-up, or what it began with."""
        found = None
        async for letter in self._letters.letters(journal.saga, state=DEAD):
            if (
                letter.attributes.get(INSTANCE) == journal.id
                or f"saga {journal.id!r}: " in letter.record.reason
                or (INSTANCE not in letter.attributes and await self._is_first(letter, journal, input_))
            ):
                found = letter
        return found

    async def _is_first(self, letter: Letter, journal: Journal, input_: Any) -> bool:  # noqa: ANN401 - JSON
        """Whether it is the message that the instance began with, which does not name it."""
        if letter.size > self._store.max_value or letter.sent_at_ms != journal.sent_at_ms:
            return False
        try:
            return bool(check_json(letter.queue, await self._letters.body(letter)) == input_)
        except PayloadError:
            return False

    async def _discarded(self, letter: Letter) -> str | None:
        """Discard a letter that nobody needs any more; why it is left, if it is."""
        try:
            await self._letters.discard(letter)
        except (BrokerError, OperationRefused) as error:
            return str(error)
        return None

    @cached_property
    def _letters(self) -> LetterOperations:
        return LetterOperations(self._broker, self._store, clock=self._clock, app=self._app, who=self._who)

    def _deed(self, what: str, reason: str = "") -> Deed:
        return Deed(what=what, by=self._who, at_ms=self._clock.now_ms(), note=reason)
