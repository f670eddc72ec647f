# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""What a queue may be told to do: hold back, forget, refuse dead letters; and what it cannot become."""

from __future__ import annotations

import secrets

import pytest

from redrive.broker import Acknowledge, Broker, QueueSpec, Return
from redrive.errors import LimitExceeded, QueueConflict, QueueNotFound
from redrive.testing.behaviour.ground import Ground, message, new_queue, promises, send, settle


class Settings(Ground):
    """How a queue's settings show."""

    async def test_a_queues_delay_is_that_of_what_has_none(self, broker: Broker) -> None:
        """What is sent without a delay waits as long as the queue says; one of its own counts instead."""
        queue = await new_queue(broker, delay=self.lease)
        plain, sooner = message(b"plain"), message(b"sooner")
        await send(broker, queue, plain)
        await send(broker, queue, sooner, delay=self.lease * 0.4)
        assert (await broker.depth(queue)).delayed == 2
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 0.6)
        (taken,) = await self._take(broker, queue)
        assert taken.message == sooner
        await settle(broker, Acknowledge(delivery=taken))
        await self.let_pass(self.lease * 0.5)
        assert [one.message for one in await self._take(broker, queue)] == [plain]

    async def test_no_delay_of_its_own_counts_too(self, broker: Broker) -> None:
        """A delay of 0 is one: the message does not wait for its queue's."""
        queue = await new_queue(broker, delay=self.lease)
        at_once = message()
        await send(broker, queue, at_once, delay=0.0)
        assert [one.message for one in await self._take(broker, queue)] == [at_once]

    async def test_a_queues_delay_is_not_that_of_a_return(self, broker: Broker) -> None:
        """What goes back is ready at once, or when whoever returned it says."""
        queue = await new_queue(broker, delay=self.lease)
        await send(broker, queue, message())
        await self.let_pass(self.lease * 1.1)
        (taken,) = await self._take(broker, queue)
        await settle(broker, Return(delivery=taken))
        assert [one.receive_count for one in await self._take(broker, queue)] == [2]

    async def test_nothing_is_kept_beyond_its_retention(self, broker: Broker) -> None:
        """Ready, delayed or in flight, it is gone; what came later stays, and other queues keep theirs."""
        queue, keeps = await new_queue(broker, retention=120.0), await new_queue(broker)
        await send(broker, queue, message(b"1"), message(b"2"))
        await send(broker, keeps, message())
        await self._let_pass_long(60)
        await send(broker, queue, message(b"3"))
        taken = await self._take_all(broker, queue, 3)
        await settle(broker, Return(delivery=taken[0]), Return(delivery=taken[2], delay=self.lease))
        await self._let_pass_long(59)
        assert (await broker.depth(queue)).total == 3
        await self._let_pass_long(2)
        assert (await broker.depth(queue)).total == 1
        await self._let_pass_long(self.lease)
        assert [one.message.body for one in await self._take(broker, queue)] == [b"3"]
        assert (await broker.depth(keeps)).total == 1

    async def test_a_queue_without_retention_keeps_for_ever(self, broker: Broker) -> None:
        """A month changes nothing."""
        queue = await new_queue(broker)
        sent = message()
        await send(broker, queue, sent)
        await self._let_pass_long(31 * 86_400.0)
        assert [one.message for one in await self._take(broker, queue)] == [sent]

    async def test_a_setting_may_change(self, broker: Broker) -> None:
        """A queue that is declared with other settings has those, and keeps what it holds."""
        queue = await new_queue(broker)
        await send(broker, queue, message(b"before"))
        await broker.declare([QueueSpec(name=queue, delay=self.lease)])
        await send(broker, queue, message(b"after"))
        depth = await broker.depth(queue)
        assert (depth.ready, depth.delayed) == (1, 1)

    async def test_a_queue_keeps_its_kind(self, broker: Broker) -> None:
        """Neither becomes the other: an error that names the queue, and it stays as it was."""
        promises(broker, "ordered")
        for fifo in (False, True):
            queue = await new_queue(broker, fifo=fifo)
            with pytest.raises(QueueConflict, match=queue):
                await broker.declare([QueueSpec(name=queue, fifo=not fifo)])
            await broker.declare([QueueSpec(name=queue, fifo=fifo)])

    async def test_a_dead_letter_queue_is_of_the_same_kind(self, broker: Broker) -> None:
        """FIFO for FIFO, standard for standard; otherwise nothing is made."""
        promises(broker, "ordered")
        for fifo in (False, True):
            dead = await new_queue(broker, fifo=not fifo)
            name = f"suite-{secrets.token_hex(8)}"
            with pytest.raises(QueueConflict, match=dead):
                await broker.declare([QueueSpec(name=name, fifo=fifo, dead_letter_queue=dead, max_receives=1)])
            assert name not in await broker.queues()

    async def test_a_queue_may_say_whose_dead_letters_it_takes(self, broker: Broker) -> None:
        """Those that it names, or none; otherwise every queue's. A refusal names it and makes nothing."""
        allowed, other = (f"suite-{secrets.token_hex(8)}" for _ in range(2))
        named = await new_queue(broker, allowed_sources=(allowed,))
        closed = await new_queue(broker, allowed_sources=())
        for name, dead in ((other, named), (allowed, closed), (other, closed)):
            with pytest.raises(QueueConflict, match=dead):
                await broker.declare([QueueSpec(name=name, dead_letter_queue=dead, max_receives=3)])
        assert not {allowed, other} & set(await broker.queues())
        await broker.declare([QueueSpec(name=allowed, dead_letter_queue=named, max_receives=3)])
        assert allowed in await broker.queues()

    async def test_a_dead_letter_queue_has_to_exist(self, broker: Broker) -> None:
        """It is named, and nothing is made: not what was declared with it either."""
        unknown, name, fine = (f"suite-{secrets.token_hex(8)}" for _ in range(3))
        with pytest.raises(QueueNotFound, match=unknown):
            await broker.declare(
                [QueueSpec(name=fine), QueueSpec(name=name, dead_letter_queue=unknown, max_receives=3)]
            )
        assert not {name, fine} & set(await broker.queues())

    async def test_settings_that_cannot_be_are_refused(self, broker: Broker) -> None:
        """Each with an error of its own, and nothing is made."""
        dead = await new_queue(broker)
        name = f"suite-{secrets.token_hex(8)}"
        for spec in (
            QueueSpec(name=name, delay=-1.0),
            QueueSpec(name=name, delay=900.001),
            QueueSpec(name=name, retention=59.999),
            QueueSpec(name=name, retention=1_209_600.001),
            QueueSpec(name=name, content_deduplication=True),
            QueueSpec(name=name, max_receives=3),
            QueueSpec(name=name, dead_letter_queue=dead),
            QueueSpec(name=name, dead_letter_queue=dead, max_receives=0),
            QueueSpec(name=name, dead_letter_queue=dead, max_receives=1_001),
            QueueSpec(name=name, allowed_sources=tuple(f"queue-{number}" for number in range(11))),
            QueueSpec(name=name + "é"),
            QueueSpec(name=""),
            QueueSpec(name="x" * 81),
        ):
            with pytest.raises(LimitExceeded):
                await broker.declare([spec])
        assert name not in await broker.queues()
