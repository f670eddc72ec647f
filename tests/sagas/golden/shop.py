"""The application whose journals are kept: it must stay as it is, as a user's would."""

from __future__ import annotations

from typing import Any

from redrive import App, Saga
from tests.sagas.services import Services, book, charge, confirm, reserve


class GoldenShop:
    """An order named `waiting` waits for a person; all others do not."""

    def __init__(self) -> None:
        self.app: App[Any] = App("golden")
        self.orders = self.app.queue("orders", str)
        self.services = Services()
        self.saga = self.orders.saga(id=lambda order: order, deadline=7200, steps=[charge, reserve, book, confirm])(
            fulfil
        )


async def fulfil(saga: Saga[Services], order: str) -> list[str]:
    """Charge, note what is drawn, reserve and book, perhaps wait, confirm."""
    paid = await saga.run(charge, order)
    drawn = f"{saga.now():%Y}"
    beans, courier = await saga.gather(reserve(order), book(order))
    said = await saga.wait_for("approved", timeout=3600) if order == "waiting" else "not asked"
    return [paid, drawn, beans, courier, said, await saga.run(confirm, order)]
