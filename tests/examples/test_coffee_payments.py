"""The payment system of the coffee shop keeps its promises, whatever fault it was given."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import payments
from payments import service

from .conftest import SHOP, visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from .conftest import Service

MODES = ["none", "down", "hang", "slow", "flaky", "refuse"]


@pytest.fixture
def ledger_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "payments.db"
    monkeypatch.setenv("PAYMENTS_DATABASE", str(path))
    monkeypatch.setenv("PAYMENTS_SEED", "1")
    return path


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the service waited, instead of waiting."""
    waited: list[float] = []

    async def told_to_stop(_stopping: asyncio.Event, within: float) -> bool:
        waited.append(within)
        return False

    monkeypatch.setattr(payments, "told_to_stop", told_to_stop)
    return waited


@pytest.fixture
async def bank(ledger_file: Path, waits: list[float]) -> AsyncIterator[httpx.AsyncClient]:  # noqa: ARG001
    async with visiting(service) as client:
        yield client


async def charge(
    bank: httpx.AsyncClient, order_id: str = "one", amount: float = 3.9, key: str = "key"
) -> httpx.Response:
    return await bank.post("/charges", json={"order_id": order_id, "amount": amount}, headers={"Idempotency-Key": key})


async def ledger(bank: httpx.AsyncClient) -> tuple[int, list[Any]]:
    body = (await bank.get("/charges")).json()
    return body["calls"], body["charges"]


async def set_mode(bank: httpx.AsyncClient, mode: str) -> None:
    assert (await bank.put("/faults", json={"mode": mode})).json() == {"mode": mode}
    assert (await bank.get("/faults")).json() == {"mode": mode}


async def test_a_charge_is_booked(bank: httpx.AsyncClient) -> None:
    """A charge is answered with what was booked, and stands in the ledger."""
    answer = await charge(bank)
    assert answer.status_code == 201
    assert {**answer.json(), "at_ms": 0} == {"order_id": "one", "amount": 3.9, "key": "key", "at_ms": 0}
    assert await ledger(bank) == (1, [answer.json()])


async def test_a_key_is_charged_once(bank: httpx.AsyncClient) -> None:
    """The same key again is answered with the first charge, and each request counts as a call."""
    first = await charge(bank)
    again = await charge(bank)
    assert (again.status_code, again.json()) == (200, first.json())
    assert await ledger(bank) == (2, [first.json()])


async def test_a_key_is_charged_once_by_many_at_a_time(bank: httpx.AsyncClient) -> None:
    """Of twenty calls with one key at the same time, one books."""
    answers = await asyncio.gather(*(charge(bank) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    calls, charges = await ledger(bank)
    assert (calls, len(charges)) == (20, 1)


@pytest.mark.parametrize(("order_id", "amount"), [("one", 4.0), ("two", 3.9)])
async def test_a_key_belongs_to_one_order_and_amount(bank: httpx.AsyncClient, order_id: str, amount: float) -> None:
    """A key that is used for something else is refused, and nothing is booked."""
    first = await charge(bank)
    other = await charge(bank, order_id=order_id, amount=amount)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    assert (await ledger(bank))[1] == [first.json()]


@pytest.mark.parametrize("mode", MODES)
async def test_a_canary_is_never_booked_nor_counted(bank: httpx.AsyncClient, mode: str) -> None:
    """An amount of 0.00 is answered as the fault wants, and leaves no trace."""
    await set_mode(bank, mode)
    expected = {"none": {200}, "down": {503}, "hang": {503}, "slow": {200}, "flaky": {200, 503}, "refuse": {402}}[mode]
    answers = {(await charge(bank, "canary", 0.0, "canary")).status_code for _ in range(30)}
    assert answers == expected
    assert await ledger(bank) == (0, [])


async def test_down_fails_at_once(bank: httpx.AsyncClient, waits: list[float]) -> None:
    """When it is down, a call is counted, answered with 503 without waiting, and not booked."""
    await set_mode(bank, "down")
    assert (await charge(bank)).status_code == 503
    assert await ledger(bank) == (1, [])
    assert waits == []


async def test_hang_gives_no_answer_and_books_nothing(bank: httpx.AsyncClient, waits: list[float]) -> None:
    """When it hangs, a call waits for 30 seconds and was not booked."""
    await set_mode(bank, "hang")
    assert (await charge(bank)).status_code == 503
    assert await ledger(bank) == (1, [])
    assert waits == [30.0]


@pytest.mark.usefixtures("ledger_file")
async def test_slow_books_before_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is slow, a caller who leaves before the answer was charged; the key says so when he comes back."""
    booked_while_waiting: list[Any] = []

    async def look(_stopping: asyncio.Event, within: float) -> bool:
        booked_while_waiting.append((within, service.state.ledger.newest(None)))
        return False

    monkeypatch.setattr(payments, "told_to_stop", look)
    async with visiting(service) as bank:
        await set_mode(bank, "slow")
        first = await charge(bank)
        assert booked_while_waiting == [(2.0, [first.json()])]
        assert (await charge(bank)).status_code == 200
        assert (await ledger(bank))[1] == [first.json()]


async def test_flaky_fails_half_of_calls_and_still_charges_once(bank: httpx.AsyncClient) -> None:
    """When it is flaky, half of the calls fail, some after booking; who repeats a call until it works pays once."""
    await set_mode(bank, "flaky")
    first_answers = [(await charge(bank, f"order-{n}", key=f"key-{n}")).status_code for n in range(200)]
    assert 70 <= first_answers.count(503) <= 130
    booked = {row["key"] for row in (await ledger(bank))[1]}
    lost_answers = [n for n, status in enumerate(first_answers) if status == 503 and f"key-{n}" in booked]
    assert lost_answers
    for n in range(200):
        while (await charge(bank, f"order-{n}", key=f"key-{n}")).status_code == 503:
            pass
    assert sorted(row["order_id"] for row in (await ledger(bank))[1]) == sorted(f"order-{n}" for n in range(200))


async def test_a_refused_card_is_not_charged(bank: httpx.AsyncClient) -> None:
    """When cards are refused, a call is answered with 402 and not booked; the same key may be charged later."""
    await set_mode(bank, "refuse")
    assert (await charge(bank)).status_code == 402
    assert await ledger(bank) == (1, [])
    await set_mode(bank, "none")
    assert (await charge(bank)).status_code == 201


async def test_what_was_charged_is_not_refused_later(bank: httpx.AsyncClient) -> None:
    """A key that was charged is answered with its charge even when cards are refused, or the money would be lost."""
    first = await charge(bank)
    await set_mode(bank, "refuse")
    again = await charge(bank)
    assert (again.status_code, again.json()) == (200, first.json())


async def test_the_last_charges_can_be_asked_for(bank: httpx.AsyncClient) -> None:
    """`limit` shows the last charges, oldest first, and the number of all calls."""
    for n in range(3):
        await charge(bank, f"order-{n}", key=f"key-{n}")
    body = (await bank.get("/charges", params={"limit": 2})).json()
    assert (body["calls"], [row["order_id"] for row in body["charges"]]) == (3, ["order-1", "order-2"])
    assert (await bank.get("/charges", params={"limit": 0})).json() == {"calls": 3, "charges": []}


@pytest.mark.parametrize("limit", ["-1", "many", "1.5", "", "9" * 30, "٣"])
async def test_a_limit_is_a_whole_number(bank: httpx.AsyncClient, limit: str) -> None:
    """Any other limit is refused by name."""
    answer = await bank.get("/charges", params={"limit": limit})
    assert (answer.status_code, answer.json()["field"]) == (400, "limit")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ('{"amount": 1}', 422, "order_id"),
        ('{"order_id": "a"}', 422, "amount"),
        ('{"order_id": "", "amount": 1}', 422, "order_id"),
        ('{"order_id": "a", "amount": -1}', 422, "amount"),
        ('{"order_id": "a", "amount": 1.001}', 422, "amount"),
        ('{"order_id": "a", "amount": 1e99}', 422, "amount"),
        ('{"order_id": "a", "amount": NaN}', 422, "amount"),
        ('{"order_id": "a", "amount": Infinity}', 422, "amount"),
        ('{"order_id": "a", "amount": "free"}', 422, "amount"),
        ('["order"]', 422, None),
        ('{"order_id": "\\ud800", "amount": 1}', 400, None),
        ('{"order_id": "a"', 400, None),
        ("", 400, None),
        ("[" * 5000, 400, None),
        ('{"order_id": "a", "amount": 1, "rest": "' + "x" * 20_000 + '"}', 413, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_bad_input_is_named(bank: httpx.AsyncClient, body: str, status: int, field: str | None) -> None:
    """What cannot be charged is refused with its field named and counted as a call."""
    answer = await bank.post("/charges", content=body, headers={"Idempotency-Key": "key"})
    assert (answer.status_code, answer.json().get("field")) == (status, field)
    assert await ledger(bank) == (1, [])


@pytest.mark.parametrize("key", ["", "k" * 201])
async def test_a_key_is_needed(bank: httpx.AsyncClient, key: str) -> None:
    """Without a usable key nothing is charged."""
    answer = await charge(bank, key=key)
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")
    assert (await ledger(bank))[1] == []


@pytest.mark.parametrize("body", ['{"mode": "tired"}', '{"mode": null}', "{}"])
async def test_an_unknown_fault_changes_nothing(bank: httpx.AsyncClient, body: str) -> None:
    """A fault that does not exist is refused with those that do."""
    answer = await bank.put("/faults", content=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "mode")
    assert (await bank.get("/faults")).json() == {"mode": "none"}


async def test_other_pages_change_nothing(bank: httpx.AsyncClient) -> None:
    """A page of another origin may neither break payments nor charge; a name that is not ours is not served."""
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1"):
        answer = await bank.put("/faults", json={"mode": "down"}, headers={"Origin": origin})
        assert answer.status_code == 403
        answer = await bank.post("/charges", json={}, headers={"Origin": origin})
        assert answer.status_code == 403
    assert (await bank.get("/faults", headers={"Host": "evil.example"})).status_code == 400
    own = await bank.put("/faults", json={"mode": "down"}, headers={"Origin": "http://127.0.0.1"})
    assert own.status_code == 200


@pytest.mark.usefixtures("ledger_file")
async def test_a_restart_forgets_nothing() -> None:
    """Charges, their keys, the number of calls and the fault outlive the process."""
    async with visiting(service) as bank:
        first = await charge(bank)
        await set_mode(bank, "refuse")
    async with visiting(service) as bank:
        assert (await bank.get("/faults")).json() == {"mode": "refuse"}
        assert await ledger(bank) == (1, [first.json()])
        assert (await charge(bank)).json() == first.json()


@pytest.mark.e2e
def test_a_killed_payment_system_forgets_no_charge(start: Callable[..., Service], tmp_path: Path) -> None:
    """After `kill -9` between calls, every answered charge is there, and is not made twice."""
    database = str(tmp_path / "payments.db")
    answered = []
    for life in range(3):
        bank = start("payments.py", PAYMENTS_DATABASE=database)
        with httpx.Client(base_url=bank.url) as client:
            for n in range(life * 5 + 5):
                order = {"order_id": f"order-{n}", "amount": 3.9}
                answer = client.post("/charges", json=order, headers={"Idempotency-Key": f"key-{n}"})
                answered.append((n, answer.status_code, answer.json()))
        os.kill(bank.process.pid, signal.SIGKILL)
        bank.process.wait()
    first = {n: body for n, status, body in answered if status == 201}
    assert sorted(first) == list(range(15))
    assert [body for n, status, body in answered if status == 200] == [first[n] for n in [*range(5), *range(10)]]
    with httpx.Client(base_url=start("payments.py", PAYMENTS_DATABASE=database).url) as client:
        assert client.get("/charges").json() == {"calls": 30, "charges": [first[n] for n in range(15)]}


@pytest.mark.e2e
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, "lifeline"], ids=str)
def test_a_hanging_call_does_not_hold_the_payment_system_up(
    start: Callable[..., Service], tmp_path: Path, stop: signal.Signals | str
) -> None:
    """Told to stop, it answers the calls that hang and is gone within a second or so, with exit code 0."""
    bank = start("payments.py", "--lifeline", PAYMENTS_DATABASE=str(tmp_path / "payments.db"))
    httpx.put(f"{bank.url}/faults", json={"mode": "hang"})
    port = int(bank.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as caller:
        body = json.dumps({"order_id": "one", "amount": 1}).encode()
        head = f"POST /charges HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body)
        for _ in _until(time.monotonic() + 10):
            if httpx.get(f"{bank.url}/charges").json()["calls"] == 1:
                break
        stopped_at = time.monotonic()
        if isinstance(stop, signal.Signals):
            bank.process.send_signal(stop)
        else:
            assert bank.process.stdin is not None
            bank.process.stdin.close()
        assert bank.process.wait(timeout=10) == 0
        assert time.monotonic() - stopped_at < 2
        assert b"503" in caller.recv(1000)
    assert bank.process.stderr is not None
    assert not bank.process.stderr.read()


@pytest.mark.e2e
def test_a_busy_port_is_named(start: Callable[..., Service], tmp_path: Path) -> None:
    """A port that somebody else has is named in one line, without a traceback."""
    bank = start("payments.py", PAYMENTS_DATABASE=str(tmp_path / "payments.db"))
    port = bank.url.rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, str(SHOP / "payments.py"), "--port", port],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PAYMENTS_DATABASE": str(tmp_path / "other.db")},
    )
    assert second.returncode == 1
    assert f"payments cannot listen on port {port}" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def _until(deadline: float) -> itertools.takewhile[int]:
    return itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.count())
