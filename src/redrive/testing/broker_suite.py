# ruff: noqa: S101, PLR2004 - tests: assert is how they speak, and their numbers are the test
"""The behaviour of every broker, as tests: an adapter that passes keeps the promises of `redrive.broker`.

    class TestMyBroker(BrokerSuite):
        lease = 2.0                                      # real time: keep it short

        @pytest.fixture
        async def broker(self) -> AsyncIterator[Broker]:
            broker = await MyBroker.connect("...")
            yield broker
            await broker.close()

Run it with pytest-asyncio in its mode `auto`. Every test makes queues of its own, so that a shared broker will do. What
a broker does not promise in its `Capabilities` is skipped, by the promise's name; a promise that is not kept fails.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from redrive.broker import (
    LONGEST_LEASE,
    Acknowledge,
    Broker,
    Capabilities,
    Forward,
    Outgoing,
    QueueSpec,
    Return,
    Settlement,
)
from redrive.errors import BrokerError, BrokerUnavailable, LimitExceeded, QueueNotFound, StaleReceipt
from redrive.message import MAX_BODY, NOTHING, Delivery, Failure, Message, Notes, message_id

DEADLINE = 10.0
"""Seconds of real time within which whatever is waited for has to happen."""
SENT_AT_MS = 1_700_000_000_123
"""An original send time long past: a broker has to keep it, not make its own."""

NOTED = replace(NOTHING, attempts=2, bounces=1, forwards=3, degraded_at_ms=SENT_AT_MS + 5).noting(
    Failure(
        at_ms=SENT_AT_MS + 9, kind="raised", error="ValueError", text="naïve \0 \ud800 ☕", traceback="line 1\nline 2"
    ),
    reason="2 of 3 attempts",
)
"""Notes with everything in them."""


class BrokerSuite:
    """Subclass it, and give it a fixture `broker`; `let_pass` too where time can be made to pass faster."""

    pytestmark = pytest.mark.asyncio

    lease: float = 30.0
    """Length of the leases and delays in these tests, in seconds; short where time is real."""

    @pytest.fixture
    def broker(self) -> Broker:
        """An open broker; the subclass provides it and closes it."""
        missing = "a subclass of BrokerSuite has to have a fixture `broker`"
        raise NotImplementedError(missing)

    async def let_pass(self, seconds: float) -> None:
        """Let time pass for the broker."""
        await asyncio.sleep(seconds)

    # Queues

    async def test_declaring_twice_changes_nothing(self, broker: Broker) -> None:
        """A queue that is declared again keeps what it holds."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        await broker.declare([QueueSpec(name=queue)])
        assert (await broker.depth(queue)).total == 1

    async def test_queues_are_listed(self, broker: Broker) -> None:
        """Every declared queue is listed, once, by name."""
        made = [await new_queue(broker) for _ in range(3)]
        await broker.declare([QueueSpec(name=made[0])])
        names = await broker.queues()
        assert names == sorted(set(names))
        assert set(made) <= set(names)

    async def test_an_unknown_queue_is_named(self, broker: Broker) -> None:
        """Whatever is asked of a queue that does not exist is answered with its name."""
        unknown = f"suite-{secrets.token_hex(8)}"
        asked: list[Any] = [
            broker.send(unknown, [Outgoing(message=message())]),
            broker.receive(unknown, limit=1, lease=self.lease),
            broker.depth(unknown),
            broker.purge(unknown),
        ]
        if broker.capabilities.browses:
            asked.append(broker.browse(unknown))
        for one in asked:
            with pytest.raises(QueueNotFound, match=unknown):
                await one
        assert unknown not in await broker.queues()

    async def test_depth_tells_ready_from_in_flight_from_delayed(self, broker: Broker) -> None:
        """Each message is counted once, as what it is."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message(), message(), message(), message())
        await send(broker, queue, message(), delay=self.lease)
        taken = [*await receive(broker, queue, limit=1, lease=self.lease), *await self._take(broker, queue, limit=1)]
        await settle(broker, Return(delivery=taken[0], delay=self.lease))
        depth = await broker.depth(queue)
        assert (depth.ready, depth.in_flight, depth.delayed, depth.total) == (3, 1, 2, 6)

    async def test_purge_leaves_nothing(self, broker: Broker) -> None:
        """Ready, in flight and delayed: all of it is deleted, and counted."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message(), message())
        await send(broker, queue, message(), delay=self.lease)
        await send(broker, other, message())
        (taken,) = await self._take(broker, queue, limit=1)
        assert await broker.purge(queue) == 3
        assert (await broker.depth(queue)).total == 0
        assert_stale(await broker.settle([Acknowledge(delivery=taken)]))
        await self.let_pass(self.lease * 1.5)
        assert await self._take(broker, queue) == []
        assert (await broker.depth(other)).total == 1

    # Sending

    async def test_a_message_arrives_as_it_was_sent(self, broker: Broker) -> None:
        """Id, body, attributes, group, original send time and notes are those of the sender."""
        queue = await new_queue(broker)
        sent = message(b'{"n": 1}', attributes={"trace": "abc"}, group="table 4")
        await send(broker, queue, sent)
        (delivery,) = await self._take(broker, queue)
        assert delivery.message == sent
        assert delivery.queue == queue
        assert delivery.receive_count == 1

    async def test_notes_travel_with_a_sent_message(self, broker: Broker) -> None:
        """A message that is sent with notes arrives with them."""
        promises(broker, "annotates_retry")
        queue = await new_queue(broker)
        await send(broker, queue, message(notes=NOTED))
        (delivery,) = await self._take(broker, queue)
        assert delivery.message.notes == NOTED

    async def test_bodies_of_every_kind_arrive_unchanged(self, broker: Broker) -> None:
        """Empty, NUL, UTF-8, no text at all, and the largest there may be."""
        queue = await new_queue(broker)
        bodies = [b"", b"\0", b"a\0b", "☕ naïve 𝄞 \u2028".encode(), bytes(range(256)), b"x" * MAX_BODY]
        sent = {one.id: one for one in map(message, bodies)}
        for one in sent.values():
            await send(broker, queue, one)
        received = await self._take_all(broker, queue, len(bodies))
        assert {one.message.id: one.message.body for one in received} == {one.id: one.body for one in sent.values()}

    async def test_attributes_with_odd_characters_arrive_unchanged(self, broker: Broker) -> None:
        """Quotes, controls, other scripts, nothing at all."""
        queue = await new_queue(broker)
        values = ['"', "'", "\\", "a\nb\tc", "☕ 𝄞", "", " ", "{}", "null", "%s ?1 :x", "\u2028", "x" * 1_000]
        sent = message(attributes={f"name.{number}-x_y": value for number, value in enumerate(values)})
        await send(broker, queue, sent)
        (delivery,) = await self._take(broker, queue)
        assert delivery.message.attributes == sent.attributes

    async def test_a_batch_arrives_whole(self, broker: Broker) -> None:
        """Everything in one call arrives, once."""
        queue = await new_queue(broker)
        sent = [message(b"%d" % number) for number in range(min(237, broker.capabilities.max_batch))]
        await send(broker, queue, *sent)
        received = await self._take_all(broker, queue, len(sent))
        assert {one.message.id: one.message for one in received} == {one.id: one for one in sent}
        assert await self._take(broker, queue) == []

    async def test_what_is_out_of_limits_is_refused_singly(self, broker: Broker) -> None:
        """A body too large, delays that cannot be and a group that is no text are answered so; the others are sent."""
        queue = await new_queue(broker)
        good, last = message(b"good"), message(b"last")
        results = await broker.send(
            queue,
            [
                Outgoing(message=good),
                Outgoing(message=message(b"x" * (MAX_BODY + 1))),
                Outgoing(message=message(), delay=broker.capabilities.max_delay + 1),
                Outgoing(message=message(), delay=-1.0),
                Outgoing(message=message(group="\ud800")),
                Outgoing(message=last),
            ],
        )
        assert [type(one) for one in results] == [type(None), *[LimitExceeded] * 4, type(None)]
        assert str(MAX_BODY) in str(results[1])
        received = await self._take_all(broker, queue, 2)
        assert {one.message.id for one in received} == {good.id, last.id}
        assert (await broker.depth(queue)).total == 2

    async def test_a_delayed_message_waits(self, broker: Broker) -> None:
        """It is received when its delay is over, not before; the others do not wait for it."""
        queue = await new_queue(broker)
        late, prompt = message(), message()
        await send(broker, queue, late, delay=self.lease)
        await send(broker, queue, prompt)
        assert [one.message.id for one in await self._take(broker, queue)] == [prompt.id]
        await self.let_pass(self.lease * 0.5)
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 0.6)
        assert late.id in [one.message.id for one in await self._take(broker, queue)]

    # Receiving

    async def test_an_empty_queue_answers_at_once(self, broker: Broker) -> None:
        """Without a wait there is none."""
        queue = await new_queue(broker)
        async with asyncio.timeout(DEADLINE):
            assert await self._take(broker, queue) == []

    async def test_a_receive_takes_no_more_than_its_limit(self, broker: Broker) -> None:
        """What is over the limit stays ready."""
        queue = await new_queue(broker)
        await send(broker, queue, *(message() for _ in range(5)))
        assert 1 <= len(await self._take(broker, queue, limit=2)) <= 2
        assert (await broker.depth(queue)).ready >= 3

    async def test_a_lease_hides_a_message_until_it_ends(self, broker: Broker) -> None:
        """During the lease nobody receives it; after it somebody does, and the count has risen by one."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        for count in (1, 2, 3):
            (delivery,) = await self._take(broker, queue)
            assert delivery.receive_count == count
            assert await self._take(broker, queue) == []
            await self.let_pass(self.lease * 0.5)
            assert await self._take(broker, queue) == []
            await self.let_pass(self.lease * 0.6)

    async def test_two_receivers_never_hold_the_same_message(self, broker: Broker) -> None:
        """However many receive at the same time, each message is in one pair of hands, with a receipt of its own."""
        queue = await new_queue(broker)
        await send(broker, queue, *(message() for _ in range(min(40, broker.capabilities.max_batch))))
        rounds = await asyncio.gather(*(self._take(broker, queue, limit=5) for _ in range(16)))
        ids = [one.message.id for taken in rounds for one in taken]
        receipts = [one.receipt for taken in rounds for one in taken]
        assert len(ids) == len(set(ids))
        assert len(receipts) == len(set(receipts))

    async def test_an_impossible_lease_is_refused(self, broker: Broker) -> None:
        """No lease, or one over twelve hours: an error, and nothing is received."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        for lease in (0.0, -1.0, LONGEST_LEASE + 1):
            with pytest.raises(LimitExceeded):
                await receive(broker, queue, lease=lease)
        (delivery,) = await self._take(broker, queue)
        assert delivery.receive_count == 1

    async def test_a_waiting_receive_wakes_on_a_send(self, broker: Broker) -> None:
        """Who waits for the first message has it long before the wait is over."""
        queue = await new_queue(broker)
        waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=self.lease, wait=DEADLINE * 2))
        await settle_down(broker, queue)
        sent = message()
        await send(broker, queue, sent)
        async with asyncio.timeout(DEADLINE / 2):
            (delivery,) = await waiting
        assert delivery.message.id == sent.id

    async def test_a_waiting_receive_ends_with_its_wait(self, broker: Broker) -> None:
        """Nothing came: it answers with nothing."""
        queue = await new_queue(broker)
        async with asyncio.timeout(DEADLINE):
            assert await broker.receive(queue, limit=1, lease=self.lease, wait=0.05) == []

    async def test_a_cancelled_receive_loses_nothing(self, broker: Broker) -> None:
        """Cancelled while it waits, or just as its message comes: the message is received later, by somebody."""
        queue = await new_queue(broker)
        for yields in range(12):
            waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=self.lease, wait=DEADLINE))
            await settle_down(broker, queue)
            sent = message()
            sending = asyncio.create_task(broker.send(queue, [Outgoing(message=sent)]))
            for _ in range(yields):
                await asyncio.sleep(0)
            waiting.cancel()
            (taken,) = await asyncio.gather(waiting, return_exceptions=True)
            assert await sending == [None]
            if isinstance(taken, BaseException):
                assert isinstance(taken, asyncio.CancelledError)
                await settle_down(broker, queue)
                taken = await self._take(broker, queue)
                if not taken:  # it may be held until its lease ends, but no longer
                    await self.let_pass(self.lease * 1.1)
                    taken = await self._take(broker, queue)
            assert [one.message.id for one in taken] == [sent.id], f"cancelled after {yields} turns of the loop"
            await settle(broker, Acknowledge(delivery=taken[0]))

    async def test_messages_are_received_by_their_ids(self, broker: Broker) -> None:
        """What was asked for and nothing else, delayed too, but not what somebody holds; no more than the limit."""
        promises(broker, "selects")
        queue = await new_queue(broker)
        sent = [message(notes=NOTED) for _ in range(6)]
        await send(broker, queue, *sent[:4])
        await send(broker, queue, *sent[4:], delay=self.lease)
        held, wanted, late = sent[0].id, sent[2].id, sent[5].id
        assert len(await receive(broker, queue, lease=self.lease, ids=[held])) == 1
        asked = [late, held, "no such id", wanted]
        taken = await receive(broker, queue, lease=self.lease, ids=asked)
        assert {one.message.id for one in taken} == {wanted, late}
        assert await receive(broker, queue, lease=self.lease, ids=[]) == []
        both = [sent[1].id, sent[3].id]
        assert len(await broker.receive(queue, limit=1, lease=self.lease, ids=both)) == 1

    # Settling

    async def test_an_acknowledged_message_is_gone(self, broker: Broker) -> None:
        """It leaves at once and never comes back."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (first, second) = await self._take_all(broker, queue, 2)
        assert await broker.settle([Acknowledge(delivery=first)]) == [None]
        assert (await broker.depth(queue)).total == 1
        await self.let_pass(self.lease * 1.5)
        assert [one.message.id for one in await self._take(broker, queue)] == [second.message.id]

    async def test_acknowledging_twice_is_stale(self, broker: Broker) -> None:
        """The second one says so, in the same call too, and touches nothing else."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (first, second) = await self._take_all(broker, queue, 2)
        assert await broker.settle([Acknowledge(delivery=first)]) == [None]
        assert_stale(await broker.settle([Acknowledge(delivery=first)]), first)
        done, stale = await broker.settle([Acknowledge(delivery=second), Acknowledge(delivery=second)])
        assert done is None
        assert_stale([stale], second)

    async def test_a_receipt_is_stale_once_the_message_was_received_again(self, broker: Broker) -> None:
        """The former holder can settle nothing; the holder of today can."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message(b"kept"))
        (former,) = await self._take(broker, queue)
        await self.let_pass(self.lease * 1.1)
        (today,) = await self._take(broker, queue)
        assert today.receipt != former.receipt
        attempts: list[Settlement] = [
            Acknowledge(delivery=former),
            Return(delivery=former),
            Return(delivery=former, notes=NOTED),
            Forward(delivery=former, queue=other, message=former.message),
        ]
        for attempt in attempts:
            assert_stale(await broker.settle([attempt]), former)
        assert_stale(await broker.extend([former], lease=self.lease * 5), former)
        assert await self._take(broker, queue) == []
        assert (await broker.depth(other)).total == 0
        assert today.message.body == b"kept"
        assert today.message.notes == NOTHING
        assert await broker.settle([Acknowledge(delivery=today)]) == [None]

    async def test_a_receipt_that_nobody_gave_is_stale(self, broker: Broker) -> None:
        """Made-up receipts settle nothing, and say so."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        (delivery,) = await self._take(broker, queue)
        for receipt in ("", "nonsense", "1.", ".", "1.zz", f"{10**30}.00", "-1.00", "1.00", delivery.receipt + "00"):
            assert_stale(await broker.settle([Acknowledge(delivery=replace(delivery, receipt=receipt))]))
        assert await broker.settle([Acknowledge(delivery=delivery)]) == [None]

    async def test_a_returned_message_is_ready_at_once(self, broker: Broker) -> None:
        """Unchanged, and its count goes on; the receipt it was returned with is stale."""
        queue = await new_queue(broker)
        sent = message(b"body", attributes={"a": "b"}, group="g")
        await send(broker, queue, sent)
        (first,) = await self._take(broker, queue)
        assert await broker.settle([Return(delivery=first)]) == [None]
        assert_stale(await broker.settle([Return(delivery=first)]), first)
        assert (await broker.depth(queue)).ready == 1
        (second,) = await self._take(broker, queue)
        assert second.message == sent
        assert second.receive_count == 2

    async def test_a_message_returned_with_a_delay_waits(self, broker: Broker) -> None:
        """It is received when the delay is over, not when the lease would have been."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (longer, shorter) = await self._take_all(broker, queue, 2)
        await settle(
            broker,
            Return(delivery=longer, delay=self.lease * 2),
            Return(delivery=shorter, delay=self.lease * 0.5),
        )
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 0.7)
        assert [one.message.id for one in await self._take(broker, queue)] == [shorter.message.id]
        await self.let_pass(self.lease * 0.7)
        assert longer.message.id not in [one.message.id for one in await self._take(broker, queue)]
        await self.let_pass(self.lease * 0.8)
        assert longer.message.id in [one.message.id for one in await self._take(broker, queue)]

    async def test_notes_are_written_with_a_return(self, broker: Broker) -> None:
        """Counters and record travel in the message, whole, until others are written; None leaves them."""
        promises(broker, "annotates_retry")
        queue = await new_queue(broker)
        sent = message(b"body", attributes={"a": "b"})
        await send(broker, queue, sent)
        for notes, expected in ((NOTED, NOTED), (None, NOTED), (Notes(attempts=3), Notes(attempts=3))):
            (delivery,) = await self._take(broker, queue)
            await settle(broker, Return(delivery=delivery, notes=notes))
            (delivery,) = await self._take(broker, queue)
            assert delivery.message == replace(sent, notes=expected)
            await settle(broker, Return(delivery=delivery))

    async def test_a_forward_moves_the_message(self, broker: Broker) -> None:
        """It leaves the one queue and enters the other as it was, with its new notes, and is counted anew."""
        queue, other = await new_queue(broker), await new_queue(broker)
        sent = message(b"body", attributes={"a": "☕"}, group="g")
        await send(broker, queue, sent)
        (first,) = await self._take(broker, queue)
        await settle(broker, Return(delivery=first))
        (second,) = await self._take(broker, queue)
        notes = NOTED if broker.capabilities.annotates_retry else NOTHING
        await settle(broker, Forward(delivery=second, queue=other, message=replace(second.message, notes=notes)))
        assert (await broker.depth(queue)).total == 0
        assert_stale(await broker.settle([Acknowledge(delivery=second)]))
        (moved,) = await self._take(broker, other)
        assert moved.message == replace(sent, notes=notes)
        assert (moved.queue, moved.receive_count) == (other, 1)
        await self.let_pass(self.lease * 1.1)
        assert await self._take(broker, queue) == []

    async def test_a_forward_may_change_the_body(self, broker: Broker) -> None:
        """An edited message enters the other queue with its new body, under its own id."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message(b"before"))
        (taken,) = await self._take(broker, queue)
        await settle(broker, Forward(delivery=taken, queue=other, message=replace(taken.message, body=b"after")))
        (moved,) = await self._take(broker, other)
        assert moved.message == replace(taken.message, body=b"after")

    async def test_a_forward_may_be_delayed(self, broker: Broker) -> None:
        """The other queue holds it back until the delay is over."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        await settle(broker, Forward(delivery=taken, queue=other, message=taken.message, delay=self.lease))
        assert await self._take(broker, other) == []
        await self.let_pass(self.lease * 1.1)
        assert [one.message.id for one in await self._take(broker, other)] == [taken.message.id]

    async def test_a_stale_forward_copies_nothing(self, broker: Broker) -> None:
        """Where forwards are atomic, a stale receipt leaves the other queue empty."""
        promises(broker, "atomic_forward")
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        forward = Forward(delivery=taken, queue=other, message=taken.message)
        done, stale = await broker.settle([forward, forward])
        assert done is None
        assert_stale([stale], taken)
        assert (await broker.depth(other)).total == 1

    async def test_a_forward_that_cannot_be_done_loses_nothing(self, broker: Broker) -> None:
        """To no such queue, or with a body too large: the message stays in the same hands, and comes back later."""
        queue, other = await new_queue(broker), await new_queue(broker)
        unknown = f"suite-{secrets.token_hex(8)}"
        await send(broker, queue, message(b"precious"))
        (taken,) = await self._take(broker, queue)
        large = replace(taken.message, body=b"x" * (MAX_BODY + 1))
        results = await broker.settle(
            [
                Forward(delivery=taken, queue=unknown, message=taken.message),
                Forward(delivery=taken, queue=other, message=large),
            ]
        )
        assert [type(one) for one in results] == [QueueNotFound, LimitExceeded]
        assert unknown in str(results[0])
        assert await self._take(broker, queue) == []
        await self.let_pass(self.lease * 1.1)
        (again,) = await self._take(broker, queue)
        assert again.message.body == b"precious"
        assert (await broker.depth(other)).total == 0

    async def test_settlements_of_one_call_succeed_or_fail_one_by_one(self, broker: Broker) -> None:
        """Answers stand in the order asked, and what could be done was done."""
        queue, other = await new_queue(broker), await new_queue(broker)
        await send(broker, queue, *(message(b"%d" % number) for number in range(4)))
        one, two, three, four = await self._take_all(broker, queue, 4)
        results = await broker.settle(
            [
                Acknowledge(delivery=replace(one, receipt="nonsense")),
                Acknowledge(delivery=one),
                Forward(delivery=two, queue=f"suite-{secrets.token_hex(8)}", message=two.message),
                Return(delivery=three),
                Acknowledge(delivery=one),
                Forward(delivery=four, queue=other, message=four.message),
            ]
        )
        expected = [StaleReceipt, type(None), QueueNotFound, type(None), StaleReceipt, type(None)]
        assert [type(result) for result in results] == expected
        assert [found.message.id for found in await self._take(broker, queue)] == [three.message.id]
        assert [found.message.id for found in await self._take(broker, other)] == [four.message.id]

    async def test_settling_nothing_is_answered_with_nothing(self, broker: Broker) -> None:
        """Empty calls are fine."""
        queue = await new_queue(broker)
        assert await broker.settle([]) == []
        assert await broker.send(queue, []) == []
        assert await broker.extend([], lease=self.lease) == []

    # Extending

    async def test_an_extended_lease_holds_longer(self, broker: Broker) -> None:
        """It ends the new time after the call; the receipt stays good."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message())
        (extended, plain) = await self._take_all(broker, queue, 2)
        await self.let_pass(self.lease * 0.5)
        assert await broker.extend([extended], lease=self.lease) == [None]
        await self.let_pass(self.lease * 0.7)
        assert [one.message.id for one in await self._take(broker, queue)] == [plain.message.id]
        assert await broker.settle([Acknowledge(delivery=extended)]) == [None]

    async def test_extensions_succeed_or_fail_one_by_one(self, broker: Broker) -> None:
        """A settled neighbour is answered as stale; the others are extended."""
        queue = await new_queue(broker)
        await send(broker, queue, message(), message(), message())
        first, second, third = await self._take_all(broker, queue, 3)
        await settle(broker, Acknowledge(delivery=second))
        results = await broker.extend([first, second, third], lease=self.lease * 3)
        assert [type(one) for one in results] == [type(None), StaleReceipt, type(None)]
        await self.let_pass(self.lease * 1.5)
        assert await self._take(broker, queue) == []

    async def test_an_impossible_extension_is_refused(self, broker: Broker) -> None:
        """An error; the lease stays as it was."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        for lease in (0.0, LONGEST_LEASE + 1):
            with pytest.raises(LimitExceeded):
                await broker.extend([taken], lease=lease)
        assert await self._take(broker, queue) == []
        assert await broker.settle([Acknowledge(delivery=taken)]) == [None]

    # Looking

    async def test_browsing_counts_no_receive(self, broker: Broker) -> None:
        """Messages are looked at as they are, and stay ready."""
        promises(broker, "browses")
        queue = await new_queue(broker)
        sent = message(b"body", attributes={"a": "b"}, group="g")
        await send(broker, queue, sent)
        for _ in range(2):
            page = await broker.browse(queue)
            assert (page.messages, page.cursor) == ([sent], None)
        (taken,) = await self._take(broker, queue)
        assert taken.receive_count == 1

    async def test_browsing_turns_pages(self, broker: Broker) -> None:
        """Page after page shows each message once, oldest first, and the last page says so."""
        promises(broker, "browses")
        queue = await new_queue(broker)
        sent = [message(b"%d" % number) for number in range(7)]
        for one in sent:
            await send(broker, queue, one)
        seen: list[str] = []
        cursor = None
        for _ in range(4):
            page = await broker.browse(queue, cursor=cursor, limit=3)
            assert len(page.messages) <= 3
            seen += [one.id for one in page.messages]
            cursor = page.cursor
            if cursor is None:
                break
        assert cursor is None
        assert seen == [one.id for one in sent]

    # Giving up

    async def test_what_is_received_too_often_is_moved(self, broker: Broker) -> None:
        """It is handed out exactly `max_receives` times; the next receive finds it in the dead-letter queue instead."""
        dead = await new_queue(broker)
        queue = await new_queue(broker, dead_letter_queue=dead, max_receives=3)
        sent, fresh = message(b"poison", attributes={"a": "b"}), message(b"fresh")
        await send(broker, queue, sent)
        for count in (1, 2, 3):
            (delivery,) = await self._take(broker, queue)
            assert delivery.receive_count == count
            assert (await broker.depth(dead)).total == 0
            await self.let_pass(self.lease * 1.1)
        await send(broker, queue, fresh)
        received = [one.message.id for one in await self._take_all(broker, queue, 1)]
        assert received == [fresh.id]
        assert await self._take(broker, queue) == []
        (letter,) = await self._take(broker, dead)
        assert (letter.message.id, letter.message.body) == (sent.id, sent.body)
        assert letter.message.attributes == sent.attributes
        assert letter.message.sent_at_ms == sent.sent_at_ms
        assert letter.receive_count == 1

    # Closing

    async def test_a_closed_broker_says_so(self, broker: Broker) -> None:
        """After `close` every call is answered with BrokerUnavailable; closing again is fine."""
        queue = await new_queue(broker)
        await send(broker, queue, message())
        (taken,) = await self._take(broker, queue)
        await broker.close()
        await broker.close()
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: broker.declare([QueueSpec(name=queue)]),
            lambda: broker.send(queue, [Outgoing(message=message())]),
            lambda: broker.receive(queue, limit=1, lease=self.lease),
            lambda: broker.settle([Acknowledge(delivery=taken)]),
            lambda: broker.extend([taken], lease=self.lease),
            lambda: broker.browse(queue),
            lambda: broker.depth(queue),
            broker.queues,
            lambda: broker.purge(queue),
        ]
        for call in asked:
            with pytest.raises(BrokerUnavailable):
                await call()

    async def test_closing_ends_a_waiting_receive(self, broker: Broker) -> None:
        """Who waits is told, and does not wait on."""
        queue = await new_queue(broker)
        waiting = asyncio.create_task(broker.receive(queue, limit=1, lease=self.lease, wait=DEADLINE * 2))
        await settle_down(broker, queue)
        await broker.close()
        async with asyncio.timeout(DEADLINE / 2):
            with pytest.raises(BrokerUnavailable):
                await waiting

    async def _take(self, broker: Broker, queue: str, limit: int = 10) -> list[Delivery]:
        return await receive(broker, queue, limit=limit, lease=self.lease)

    async def _take_all(self, broker: Broker, queue: str, count: int) -> list[Delivery]:
        """As many as there have to be, in as many receives as that takes, in the order of their bodies."""
        taken: list[Delivery] = []
        for _ in range(count * 2):
            taken += await self._take(broker, queue)
            if len(taken) >= count:
                break
        assert len(taken) == count
        return sorted(taken, key=lambda one: one.message.body)


def message(
    body: bytes = b"1",
    *,
    attributes: dict[str, str] | None = None,
    group: str | None = None,
    notes: Notes = NOTHING,
) -> Message:
    """A message with an id of its own."""
    return Message(
        id=message_id(SENT_AT_MS, secrets.token_bytes(10)),
        body=body,
        sent_at_ms=SENT_AT_MS,
        attributes={} if attributes is None else attributes,
        group=group,
        notes=notes,
    )


async def new_queue(broker: Broker, *, dead_letter_queue: str | None = None, max_receives: int | None = None) -> str:
    """A queue that nobody used before."""
    name = f"suite-{secrets.token_hex(8)}"
    await broker.declare([QueueSpec(name=name, dead_letter_queue=dead_letter_queue, max_receives=max_receives)])
    return name


async def send(broker: Broker, queue: str, *messages: Message, delay: float = 0.0) -> None:
    """Send, all of it."""
    results = await broker.send(queue, [Outgoing(message=one, delay=delay) for one in messages])
    assert results == [None] * len(messages)


async def receive(
    broker: Broker, queue: str, *, lease: float, limit: int = 10, ids: Sequence[str] | None = None
) -> list[Delivery]:
    """Receive what is ready now."""
    return await broker.receive(queue, limit=min(limit, broker.capabilities.max_batch), lease=lease, ids=ids)


async def settle(broker: Broker, *settlements: Settlement) -> None:
    """Settle, all of it."""
    assert await broker.settle(settlements) == [None] * len(settlements)


async def settle_down(broker: Broker, queue: str) -> None:
    """What was asked before is on its way: two calls were answered since."""
    await asyncio.sleep(0)
    for _ in range(2):
        await broker.depth(queue)


def assert_stale(results: Sequence[BrokerError | None], delivery: Delivery | None = None) -> None:
    """All of them are StaleReceipt, and name the message."""
    for one in results:
        assert isinstance(one, StaleReceipt), results
        if delivery is not None:
            assert (one.queue, one.message_id) == (delivery.queue, delivery.message.id)


def promises(broker: Broker, promise: str) -> None:
    """Skip the test of a promise that this broker does not make."""
    assert promise in {one.name for one in fields(Capabilities)}
    if not getattr(broker.capabilities, promise):
        pytest.skip(f"{type(broker).__name__} does not promise {promise!r}")
