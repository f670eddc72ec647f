"""Stock and courier keep their promises, whatever fault they were given; and the payment system pays back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import courier
import partner
import payments
import stock

from .conftest import visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LATTE = {"beans": 2, "oat milk": 2}


@pytest.fixture(autouse=True)
def ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STOCK", "COURIER", "PAYMENTS"):
        monkeypatch.setenv(f"{name}_DATABASE", str(tmp_path / f"{name}.db"))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long a partner waited, instead of waiting."""
    waited: list[float] = []

    async def told_to_stop(_stopping: asyncio.Event, within: float) -> bool:
        waited.append(within)
        return False

    monkeypatch.setattr(partner, "told_to_stop", told_to_stop)
    return waited


@pytest.fixture
async def shelf(waits: list[float]) -> AsyncIterator[httpx.AsyncClient]:  # noqa: ARG001
    async with visiting(stock.service) as client:
        yield client


async def post(client: httpx.AsyncClient, path: str, key: str, order_id: str = "one", **more: object) -> httpx.Response:
    return await client.post(path, json={"order_id": order_id, **more}, headers={"Idempotency-Key": key})


async def ledger(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/ledger")).json()
    return found


async def test_a_key_is_entered_once_and_takes_its_portions_once(shelf: httpx.AsyncClient) -> None:
    """Repeated, it is answered with the first entry; for another order it is refused."""
    first = await post(shelf, "/reservations", "key", items=LATTE)
    again = await post(shelf, "/reservations", "key", items=LATTE)
    other = await post(shelf, "/reservations", "key", order_id="two", items=LATTE)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 422)
    assert first.json() == again.json()
    now = await ledger(shelf)
    assert (now["done"], now["shelf"]) == (1, {"beans": 118, "oat milk": 58})


async def test_what_is_taken_back_can_be_had_by_others(shelf: httpx.AsyncClient) -> None:
    """Portions return to the shelf once, however often and under whichever key that is asked for."""
    await post(shelf, "/reservations", "key", items=LATTE)
    for key, status in (("undo", 201), ("undo", 200), ("another", 201)):
        assert (await post(shelf, "/releases", key)).status_code == status
    now = await ledger(shelf)
    assert (now["done"], now["undone"], now["shelf"]) == (1, 1, stock.FULL)
    assert [one["what"] for one in now["entries"]] == [LATTE, LATTE, {}]


async def test_nothing_is_agreed_to_after_it_was_taken_back(shelf: httpx.AsyncClient) -> None:
    """A call that its caller gave up on may arrive after its undo: it takes no effect."""
    assert (await post(shelf, "/releases", "undo")).status_code == 201
    late = await post(shelf, "/reservations", "key", items=LATTE)
    assert (late.status_code, late.json()["error"]) == (409, "it was cancelled before")
    assert (await ledger(shelf))["shelf"] == stock.FULL


async def test_out_of_oat_milk_is_an_answer_and_lasts_until_the_shelf_is_filled(shelf: httpx.AsyncClient) -> None:
    """`refuse` pours it away: what needs milk is refused, what does not is held; `none` fills the shelf."""
    await shelf.put("/faults", json={"mode": "refuse"})
    no = await post(shelf, "/reservations", "latte", items=LATTE)
    assert (no.status_code, no.json()["error"]) == (409, "out of oat milk")
    assert (await post(shelf, "/reservations", "espresso", items={"beans": 1})).status_code == 201
    assert (await ledger(shelf))["shelf"] == {"beans": 119, "oat milk": 0}
    await shelf.put("/faults", json={"mode": "none"})
    assert (await post(shelf, "/reservations", "latte", order_id="two", items=LATTE)).status_code == 201


async def test_milk_that_runs_out_by_itself_is_told_like_any_other(shelf: httpx.AsyncClient) -> None:
    """An order for more than there is takes nothing; the last portion gone, the page can offer to refill."""
    more = {"beans": 1, "oat milk": stock.FULL["oat milk"] + 1}
    assert (await post(shelf, "/reservations", "too much", order_id="big", items=more)).status_code == 409
    assert (await ledger(shelf))["shelf"] == stock.FULL
    assert (await post(shelf, "/reservations", "all", items={"oat milk": stock.FULL["oat milk"]})).status_code == 201
    assert (await ledger(shelf))["mode"] == "refuse"


async def test_a_partner_that_is_down_enters_nothing_and_fails_its_canary(shelf: httpx.AsyncClient) -> None:
    """503 to every call, and nothing in the ledger; the fault itself is remembered."""
    await shelf.put("/faults", json={"mode": "down"})
    for path in ("/reservations", "/releases"):
        assert (await post(shelf, path, "key")).status_code == 503
    assert (await shelf.get("/health")).status_code == 503
    now = await ledger(shelf)
    assert (now["entries"], now["mode"]) == ([], "down")


async def test_a_slow_partner_enters_first_and_answers_later(shelf: httpx.AsyncClient, waits: list[float]) -> None:
    """Whoever dies while waiting finds the effect there, under the same key."""
    await shelf.put("/faults", json={"mode": "slow"})
    assert (await post(shelf, "/reservations", "key", items=LATTE)).status_code == 201
    assert waits == [partner.SLOW]


async def test_a_call_without_a_key_is_refused(shelf: httpx.AsyncClient) -> None:
    """Nothing could be said about its repetition."""
    answer = await shelf.post("/reservations", json={"order_id": "one"})
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")


async def test_riders_go_in_turn_unless_none_is_free() -> None:
    """The entry names the rider."""
    async with visiting(courier.service) as rides:
        names = [
            (await post(rides, "/bookings", key, order_id=key)).json()["what"]["rider"] for key in ("one", "two", "one")
        ]
        assert names == [courier.RIDERS[0], courier.RIDERS[1], courier.RIDERS[0]]
        await rides.put("/faults", json={"mode": "refuse"})
        no = await post(rides, "/bookings", "three", order_id="three")
        assert (no.status_code, no.json()["error"]) == (409, "no rider is free")


async def test_payments_pay_back_what_was_charged_and_charge_no_more() -> None:
    """A refund is of the whole order and once for a key; a charge that comes after it is refused."""
    async with visiting(payments.service) as bank:
        charge = {"order_id": "one", "amount": 4.1}
        await bank.post("/charges", json=charge, headers={"Idempotency-Key": "charge"})
        refunds = [(await post(bank, "/refunds", key)) for key in ("undo", "undo", "again")]
        assert [one.status_code for one in refunds] == [201, 200, 201]
        assert [one.json()["amount"] for one in refunds] == [4.1, 4.1, 0.0]
        late = await bank.post("/charges", json=charge, headers={"Idempotency-Key": "late"})
        assert late.status_code == 410
        assert (await post(bank, "/refunds", "undo", order_id="two")).status_code == 422
        of_one = (await bank.get("/refunds", params={"order_id": "one"})).json()
        assert (of_one["charged"], of_one["refunded"], len(of_one["refunds"])) == (1, 1, 2)
        assert (await bank.get("/refunds", params={"order_id": "two"})).json() == {
            "charged": 0,
            "refunded": 0,
            "refunds": [],
        }


async def test_payments_that_are_down_pay_nothing_back() -> None:
    """The faults of charges are those of refunds; only a refused card does not refuse money."""
    async with visiting(payments.service) as bank:
        await bank.put("/faults", json={"mode": "down"})
        assert (await post(bank, "/refunds", "undo")).status_code == 503
        await bank.put("/faults", json={"mode": "refuse"})
        assert (await post(bank, "/refunds", "undo")).status_code == 201
