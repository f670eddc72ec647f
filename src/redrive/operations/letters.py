"""Dead letters: look, edit, redrive, discard.

Where the broker `selects`, a letter is received by its id. Elsewhere its dead-letter queue is looked through: what was
not asked for is handed back at once, with its order kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from redrive.broker import Acknowledge, Return, Settlement
from redrive.catalogue import DEAD, DISCARDED, GONE, REDRIVEN, Letter
from redrive.claims import Claims
from redrive.consumer import dead_queue
from redrive.errors import (
    BrokerError,
    BrokerUnavailable,
    NotFound,
    OperationRefused,
    OutcomeUnknown,
    RedriveError,
    VersionConflict,
)
from redrive.intake import Found, Intake
from redrive.message import Delivery
from redrive.moves import forward
from redrive.operations.ground import Checked, Ground, is_consumed
from redrive.sweep import LEASE, Sweep

_PART = 100
_SWEEPS = 3
_BETWEEN_SWEEPS = 0.5
_AWAY = (BrokerUnavailable, OutcomeUnknown)

Deed = Callable[[Letter, Delivery], Awaitable[None]]
"""What is done to a letter that was taken out of its dead-letter queue."""
Done = tuple[Letter, RedriveError | None]
"""A letter, and why nothing was done to it; None: it was done."""


class LetterOperations(Ground):
    """Dead letters: look, edit, redrive, discard."""

    async def letters(self, queue: str | None = None, *, state: str | None = DEAD) -> AsyncIterator[Letter]:
        """The letters of one queue, or of all; by queue and original send time."""
        for name in [queue] if queue is not None else await self._consumed():
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
        await self._one(letter, lambda its, delivery: self._send_back(its, delivery, body))

    async def redrive_each(self, letters: Sequence[Letter]) -> AsyncGenerator[Done, None]:
        """Redrive many, as they are; each is given when it is done, or with the reason why it was left as it is.

        Whoever stops in between has done what was given; the rest is as it was. Close it with `aclosing`, or what was
        received meanwhile comes back when its lease ends.

        Raises:
            BrokerError: If the broker is away.
            StoreError: If the store is away.
        """
        async with aclosing(self._each(letters, self._send_back)) as each:
            async for done in each:
                yield done

    async def discard(self, letter: Letter) -> None:
        """Delete a letter for good; its entry stays in the catalogue for 14 days.

        Raises:
            OperationRefused: If the letter is not dead any more, or somebody has it in hand.
        """
        _must_be_dead(letter)
        await self._one(letter, self._throw_away)

    async def discard_each(self, letters: Sequence[Letter]) -> AsyncGenerator[Done, None]:
        """Discard many, as `redrive_each` redrives them."""
        async with aclosing(self._each(letters, self._throw_away)) as each:
            async for done in each:
                yield done

    async def take_in(self, queue: str) -> Found:
        """Hold the catalogue against one queue's dead letters now, as a worker does now and then.

        Raises:
            QueueNotFound: If it has no dead-letter queue.
        """
        return await Intake(self._broker, self._store, self._clock).look_through(queue, sure=True)

    async def _consumed(self) -> list[str]:
        return [one for one in await self._broker.queues() if is_consumed(one)]

    async def _send_back(self, letter: Letter, delivery: Delivery, body: bytes | None = None) -> None:
        message = delivery.message
        notes = message.notes.fresh(self._clock.now_ms())
        if notes.failure is None:  # the broker's own limit made it dead, and the record is in the entry alone
            notes = replace(notes, failure=letter.record)
        changed = replace(message, notes=notes, body=message.body if body is None else body)
        await self._settled(forward(delivery, letter.queue, changed))
        await self._settle(letter, REDRIVEN, "redriven" if body is None else "edited and redriven", body)

    async def _throw_away(self, letter: Letter, delivery: Delivery) -> None:
        await self._settled(Acknowledge(delivery=delivery))
        if (key := delivery.message.notes.key) is not None:
            await Claims(self._store, self._clock).forget(key, letter.id)
        await self._settle(letter, DISCARDED, "discarded")

    async def _one(self, letter: Letter, deed: Deed) -> None:
        async with aclosing(self._each([letter], deed)) as each:
            async for _, error in each:
                if error is not None:
                    raise error

    async def _each(self, letters: Sequence[Letter], deed: Deed) -> AsyncGenerator[Done, None]:
        """Do it to each, queue by queue. What is refused is given with its error; a broker that is away ends it."""
        dead: dict[str, dict[str, Letter]] = {}
        for letter in letters:
            try:
                _must_be_dead(letter)
            except OperationRefused as error:
                yield letter, error
            else:
                dead.setdefault(letter.queue, {})[letter.id] = letter
        each = self._each_by_id if self._broker.capabilities.selects else self._each_by_sweep
        for queue, wanted in dead.items():
            async with aclosing(each(queue, wanted, deed)) as of_one_queue:
                async for done in of_one_queue:
                    yield done

    async def _each_by_id(self, queue: str, wanted: dict[str, Letter], deed: Deed) -> AsyncGenerator[Done, None]:
        source = dead_queue(queue)
        for identity, letter in wanted.items():
            taken = await self._broker.receive(source, limit=1, lease=LEASE, ids=[identity])
            if taken:
                yield letter, await _refusal(deed(letter, taken[0]))
            elif await self._is_in(source, identity):
                yield (
                    letter,
                    OperationRefused(f"letter {identity!r}", "is in somebody else's hands", "try again in 30 s"),
                )
            else:
                yield letter, await self._not_there(letter, REDRIVEN)  # here nothing expires, and nobody purges

    async def _each_by_sweep(self, queue: str, wanted: dict[str, Letter], deed: Deed) -> AsyncGenerator[Done, None]:
        """In sweeps until all are found, or the queue was seen whole, or nothing new came several times."""
        left, fruitless, complete = dict(wanted), 0, False
        while left and fruitless < _SWEEPS and not complete:
            if fruitless:
                await asyncio.sleep(_BETWEEN_SWEEPS)  # others look for a moment: the intake, other operators
            fruitless += 1
            async with Sweep(self._broker, dead_queue(queue), self._clock) as sweep:
                while left and (page := await sweep.page()):
                    for delivery in page:
                        if (letter := left.pop(delivery.message.id, None)) is not None:
                            fruitless = 0
                            sweep.take(delivery)
                            yield letter, await _refusal(deed(letter, delivery))
                complete = sweep.complete
        for letter in left.values():
            yield letter, await self._not_there(letter, GONE) if complete else _not_found(letter)

    async def _not_there(self, letter: Letter, state: str) -> OperationRefused:
        await self._settle(letter, state, "found gone from the dead-letter queue")
        return OperationRefused(f"letter {letter.id!r}", "is not dead any more", "see `redrive dead show`")

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


async def _refusal(deed: Awaitable[None]) -> RedriveError | None:
    """Why one letter was left as it is; a broker or a store that is away is no reason of its own."""
    try:
        await deed
    except (OperationRefused, BrokerError) as error:
        if isinstance(error, _AWAY):
            raise
        return error
    return None


def _not_found(letter: Letter) -> OperationRefused:
    where = "is in somebody else's hands, or behind too many others"
    return OperationRefused(f"letter {letter.id!r}", where, "try again in 30 s, or redrive what is before it")


def _must_be_dead(letter: Letter) -> None:
    if letter.state != DEAD:
        raise OperationRefused(f"letter {letter.id!r}", f"is {letter.state}", "only dead letters can be changed")
