"""What a saga sends leaves with what it has done, once, and never with what it has not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from redrive import App, Context, Reject, Saga, step
from redrive.broker import Broker, Outgoing, Sends
from redrive.errors import BrokerUnavailable, LimitExceeded, OutcomeUnknown
from redrive.message import Message
from redrive.relay import Relay
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import State


class Shop:
    """A saga that sends in a step, in an undo and by itself."""

    def __init__(self) -> None:
        self.app = App("shop")
        self.orders = self.app.queue("orders", str)
        self.news = self.app.queue("news", str)
        self.fails: list[BaseException] = []
        """What the step raises after it has sent, one error each time."""
        self.rejects = False
        news = self.news

        async def unsay(_ctx: Context[None], _result: int | None, order: str) -> None:
            await news.send(f"unsaid {order}")

        @step(undo=unsay)
        async def say(_ctx: Context[None], order: str) -> int:
            await news.send(f"said {order}")
            if self.fails:
                raise self.fails.pop(0)
            return 1

        @step
        async def end(_ctx: Context[None], order: str) -> str:
            await news.send(f"never {order}")
            if self.rejects:
                raise Reject("no")
            return order

        async def fulfil(saga: Saga[None], order: str) -> str:
            await saga.run(say, order)
            await news.send(f"by itself {order}")
            await saga.sleep(timedelta(minutes=1))
            return order if not self.rejects else await saga.run(end, order)

        self.saga: SagaConsumer[str] = self.orders.saga(id=str)(fulfil)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def bodies(messages: Sequence[Message]) -> list[str]:
    return [one.body.decode().strip('"') for one in messages]


async def state_of(shop: Shop) -> State:
    journal = await shop.saga.journal("o")
    assert journal is not None
    assert not journal.unsent
    return journal.state


async def test_what_a_step_sends_leaves_with_its_result_and_the_rest_with_the_end(shop: Shop) -> None:
    """The function runs twice, and says it once."""
    async with shop.app.test() as t:
        await shop.orders.send("o")
        await t.drain()
        assert bodies(t.sent(shop.news)) == ["said o"]
        await t.advance(100)
        assert bodies(t.sent(shop.news)) == ["said o", "by itself o"]
        assert await state_of(shop) is State.COMPLETED


async def test_what_an_attempt_that_failed_has_sent_is_dropped(shop: Shop) -> None:
    """The next attempt sends it."""
    shop.fails = [OSError("away"), OSError("away")]
    async with shop.app.test() as t:
        await shop.orders.send("o")
        await t.advance(200)
        assert bodies(t.sent(shop.news)) == ["said o", "by itself o"]


async def test_what_a_rejected_step_and_an_undone_function_have_sent_never_leaves(shop: Shop) -> None:
    """What the undo sends does."""
    shop.rejects = True
    async with shop.app.test() as t:
        await shop.orders.send("o")
        await t.advance(200)
        assert await state_of(shop) is State.UNDONE
        assert bodies(t.sent(shop.news)) == ["said o", "unsaid o"]


class _Troubled(Relay):
    """Sends to the news fail so often, or are refused."""

    def __init__(self, broker: Broker, errors: list[Any], *, after: bool = False) -> None:
        super().__init__(broker)
        self._errors, self._after = errors, after

    @override
    async def send(self, queue: str, messages: Sequence[Outgoing]) -> Sends:
        if queue == "news" and self._errors:
            if self._after:
                await super().send(queue, messages)
            raise self._errors.pop(0)
        return await super().send(queue, messages)


@pytest.mark.parametrize("after", [False, True], ids=["lost", "sent, and the answer lost"])
async def test_a_broker_that_is_away_for_long_is_sent_it_later_under_the_same_id(shop: Shop, *, after: bool) -> None:
    """Twelve times it fails: whole turns end with it, and the step is not done again."""
    errors = [OutcomeUnknown("news", "cut") if after else BrokerUnavailable("news", "away") for _ in range(12)]
    async with shop.app.test(broker=lambda broker: _Troubled(broker, errors, after=after)) as t:
        await shop.orders.send("o")
        await t.advance(200)
        sent = t.sent(shop.news)
        assert set(bodies(sent)) == {"said o", "by itself o"}
        assert len({one.id for one in sent}) == 2
        assert await state_of(shop) is State.COMPLETED
        journal = await shop.saga.journal("o")
        assert journal is not None
        assert journal.steps[0].attempts == 1


async def test_what_is_refused_for_good_makes_it_stuck_and_leaves_when_its_letter_is_sent_back(shop: Shop) -> None:
    """A person sees why; nothing is lost."""
    errors: list[Any] = [LimitExceeded("body", 7, "at most 6")]
    async with shop.app.test(broker=lambda broker: _Troubled(broker, errors)) as t:
        await shop.orders.send("o")
        await t.drain()
        journal = await shop.saga.journal("o")
        assert journal is not None
        assert journal.state is State.STUCK
        assert journal.stuck is not None
        assert "is refused" in journal.stuck.reason
        assert len(await t.dead(shop.orders)) == 1
        assert len(journal.unsent) == 1
