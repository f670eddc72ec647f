"""An application with one saga, as most of these tests need it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from redrive import App, Dependency, Queue
from redrive.harness import Harness
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import Deed, Journal, State
from redrive.sagas.record import key_of
from redrive.sagas.waking import wake
from redrive.store import SAGAS
from tests.sagas.services import Services, book, charge, confirm, reserve

Fulfil = Callable[..., Coroutine[Any, Any, Any]]
HOUR, DAY = 3600.0, 86_400.0


class Shop:
    """An application whose one queue, `orders`, has a saga; the payload is the instance's id."""

    def __init__(self, fulfil: Fulfil, **settings: Any) -> None:
        self.app: App[Any] = App("shop")
        self.orders: Queue[str] = self.app.queue("orders", str)
        self.services = Services()
        steps = [*settings.pop("steps", ()), charge, reserve, book, confirm]
        self.saga: SagaConsumer[str] = self.orders.saga(id=lambda order: order, steps=_by_name(steps), **settings)(
            fulfil
        )

    def test(self, **in_front: Any) -> Harness[Any]:
        """The application in virtual time."""
        return self.app.test(resources=self.services, **in_front)

    def payments(self, **settings: Any) -> Dependency[Any]:
        """A dependency whose circuit trips at once."""
        return self.app.dependency("payments", trip_after=1, **settings)

    async def started(self, t: Harness[Any], *orders: str, seconds: float = 0.0) -> Journal:
        """Start an instance of each order, and let time pass; how the first one stands."""
        for order in orders or ("o",):
            await self.orders.send(order)
        await t.advance(seconds)
        return await self.journal((orders or ("o",))[0])

    async def journal(self, order: str = "o") -> Journal:
        """How an instance stands."""
        journal = await self.saga.journal(order)
        assert journal is not None
        return journal

    async def cancel(self, t: Harness[Any], order: str = "o", *, wakes: bool = True) -> None:
        """What an operator does: a compare-and-swap of the journal, then a wake-up."""
        entry = await t.runtime.store.get(SAGAS, key_of("orders", order))
        assert entry is not None
        journal = Journal.from_json(entry.value)
        journal.cancelled = Deed(what="cancel", by="ann", at_ms=t.clock.now_ms(), note="not wanted")
        await t.runtime.store.put(
            SAGAS, entry.key, journal.to_json(), if_version=entry.version, due_at_ms=journal.due_at_ms()
        )
        if wakes:
            await wake(t.runtime, journal)

    async def redrive(self, t: Harness[Any]) -> None:
        """What an operator does with the letter of a stuck instance."""
        from redrive.operations import Operations  # noqa: PLC0415 - few need it

        operations = Operations.of(self.app)
        for dead in await t.dead(self.orders):
            await operations.redrive(await operations.letter(dead.id))


def _by_name(steps: list[Any]) -> list[Any]:
    return list({one.name: one for one in reversed(steps)}.values())


SETTLED = {State.COMPLETED, State.UNDONE}
