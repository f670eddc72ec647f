"""Dead letters: look, edit, redrive, discard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from redrive.broker import Acknowledge, Return, Settlement
from redrive.catalogue import DEAD, DISCARDED, REDRIVEN, Letter
from redrive.consumer import dead_queue
from redrive.errors import NotFound, OperationRefused, VersionConflict
from redrive.message import Delivery
from redrive.moves import forward
from redrive.once import Claims
from redrive.operations.ground import Checked, Ground, is_consumed

_LEASE = 30.0
_PART = 100


class LetterOperations(Ground):
    """Dead letters: look, edit, redrive, discard."""

    async def letters(self, queue: str | None = None, *, state: str | None = DEAD) -> AsyncIterator[Letter]:
        """The letters of one queue, or of all; by queue and original send time."""
        names = [queue] if queue is not None else [one for one in await self._broker.queues() if is_consumed(one)]
        for name in names:
            async for letter in self._catalogue.letters(name, state=state):
                yield letter

    async def letter(self, prefix: str, queue: str | None = None) -> Letter:
        """The one letter whose id begins with `prefix`, in whatever state.

        Raises:
            OperationRefused: If there is none, or more than one.
        """
        if queue is not None and (exact := await self._catalogue.letter(queue, prefix)) is not None:
            return exact
        found = [one async for one in self.letters(queue, state=None) if one.id.startswith(prefix)]
        found = [one for one in found if one.id == prefix] or found
        if not found:
            raise NotFound(f"letter {prefix!r}", "see `redrive dead ls`")
        if len(found) > 1:
            raise OperationRefused(
                f"letter {prefix!r}", f"could be any of {len(found)}", "give more of the id, or its queue"
            )
        return found[0]

    async def body(self, letter: Letter) -> bytes:
        """A letter's body."""
        return await self._catalogue.body(letter)

    async def edit(self, letter: Letter, body: bytes) -> Checked:
        """Check an edited body, and change nothing; `redrive` with it sends it.

        Raises:
            PayloadError: If it would be dead again at once.
            OperationRefused: If the letter is not dead any more.
        """
        _must_be_dead(letter)
        return await self.check(letter.queue, body)

    async def redrive(self, letter: Letter, body: bytes | None = None) -> None:
        """Send a letter back to its queue under its own id, edited if a body is given, with its counters at zero.

        The message is moved first and the catalogue told afterwards: a crash in between leaves an entry that says dead
        for a message that is not; asking again says so and puts it right.

        Raises:
            PayloadError: If the edited body does not fit.
            OperationRefused: If the letter is not dead any more, or somebody has it in hand.
        """
        _must_be_dead(letter)
        if body is not None:
            await self.check(letter.queue, body)
        delivery = await self._take(letter)
        message = delivery.message
        notes = message.notes.fresh(self._clock.now_ms())
        changed = replace(message, notes=notes, body=message.body if body is None else body)
        await self._settled(forward(delivery, letter.queue, changed))
        await self._settle(letter, REDRIVEN, "redriven" if body is None else "edited and redriven", body)

    async def discard(self, letter: Letter) -> None:
        """Delete a letter for good; its entry stays in the catalogue for 14 days.

        Raises:
            OperationRefused: If the letter is not dead any more, or somebody has it in hand.
        """
        _must_be_dead(letter)
        delivery = await self._take(letter)
        await self._settled(Acknowledge(delivery=delivery))
        if (key := delivery.message.notes.key) is not None:
            await Claims(self._store, self._clock).forget(key, letter.id)
        await self._settle(letter, DISCARDED, "discarded")

    async def _take(self, letter: Letter) -> Delivery:
        """Receive one letter from its dead-letter queue."""
        if not self._broker.capabilities.selects:
            raise OperationRefused(f"letter {letter.id!r}", "cannot be taken one by one here", "redrive them all")
        source = dead_queue(letter.queue)
        taken = await self._broker.receive(source, limit=1, lease=_LEASE, ids=[letter.id])
        if taken:
            return taken[0]
        if await self._is_in(source, letter.id):
            raise OperationRefused(f"letter {letter.id!r}", "is in somebody else's hands", "try again in 30 s")
        await self._settle(letter, REDRIVEN, "found gone from the dead-letter queue")
        raise OperationRefused(f"letter {letter.id!r}", "is not dead any more", "see `redrive dead show`")

    async def _settled(self, settlement: Settlement) -> None:
        """Settle one letter; what the broker refuses goes back at once rather than when its lease ends."""
        (error,) = await self._broker.settle([settlement])
        if error is not None:
            await self._broker.settle([Return(delivery=settlement.delivery)])
            raise error

    async def _is_in(self, queue: str, identity: str) -> bool:
        cursor = None
        while True:
            page = await self._broker.browse(queue, cursor=cursor, limit=_PART)
            if any(message.id == identity for message in page.messages):
                return True
            if (cursor := page.cursor) is None:
                return False

    async def _settle(self, letter: Letter, state: str, what: str, body: bytes | None = None) -> None:
        try:
            await self._catalogue.settle(letter, state=state, who=self._who, what=what, body=body)
        except VersionConflict:
            return  # it died again already, and the entry says so


def _must_be_dead(letter: Letter) -> None:
    if letter.state != DEAD:
        raise OperationRefused(f"letter {letter.id!r}", f"is {letter.state}", "only dead letters can be changed")
