"""The whole shop as a person starts it: real processes, real sockets, one folder of data for each test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from redrive.operations import Operations

STOCK = {"done": "reserved", "undone": "released"}
COURIER = {"done": "booked", "undone": "cancelled"}


class CoffeeShop:
    """`redrive demo` on free ports; can be killed and started again on the same data."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.shop_port, self.payments_port = free_port(), free_port()
        self.shop = f"http://127.0.0.1:{self.shop_port}"
        self.payments = f"http://127.0.0.1:{self.payments_port}"
        self.stock = self.courier = ""
        self.process: subprocess.Popen[str] | None = None
        self.broker = f"sqlite:{data / 'coffee.db'}"
        self.options: list[str] = []
        self.environment = dict(os.environ)

    def start(self) -> None:
        """Start it and wait until it says that it is open."""
        ports = ["--port", str(self.shop_port), "--payments-port", str(self.payments_port)]
        self.process = subprocess.Popen(
            [*redrive(), "demo", "--data", str(self.data), *ports, *self.options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            name, _, place = line.strip().partition(" ")
            if name in {"stock", "courier"}:
                setattr(self, name, place.strip())
            if line.startswith("Order a coffee"):
                return
        pytest.fail("the demo did not start:\n" + "".join(lines))

    def stop(self) -> float:
        """Ctrl-C; seconds until it was gone, with everything it had started."""
        assert self.process is not None
        family = descendants(self.process.pid)
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        with self.process:
            assert self.process.wait(timeout=10) == 0
        took = time.monotonic() - began
        assert [pid for pid in family if is_alive(pid)] == []
        return took

    def kill_everything(self) -> None:
        """`kill -9` of all its processes at once."""
        assert self.process is not None
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with self.process:
            self.process.wait(timeout=10)

    def end(self) -> None:
        """Let nothing of it outlive the test."""
        if self.process is not None and self.process.poll() is None:
            self.kill_everything()
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    async def order(self, customer: str, drink: str = "latte", size: str = "small") -> str:
        """Order at the front door; the order's id."""
        return await self._order("orders", customer, drink, size)

    async def have_delivered(self, customer: str, drink: str = "latte", size: str = "small") -> str:
        """Order a delivery; its order's id."""
        return await self._order("deliveries", customer, drink, size)

    async def _order(self, queue: str, customer: str, drink: str, size: str) -> str:
        async with httpx.AsyncClient() as client:
            order = {"customer": customer, "drink": drink, "size": size}
            answer = await client.post(f"{self.shop}/{queue}", json=order)
        assert answer.status_code == 202, answer.text
        order_id: str = answer.json()["order_id"]
        return order_id

    async def orders(self) -> dict[str, dict[str, Any]]:
        """Everything ordered, by id."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self.shop}/orders", params={"limit": 500})
        return {order["order_id"]: order for order in answer.json()}

    async def set_fault(self, mode: str) -> None:
        """Break or fix the payment system."""
        async with httpx.AsyncClient() as client:
            (await client.put(f"{self.payments}/faults", json={"mode": mode})).raise_for_status()

    async def break_partner(self, name: str, mode: str) -> None:
        """Break or mend stock or courier, as the page does."""
        async with httpx.AsyncClient() as client:
            (await client.put(f"{self.shop}/faults/{name}", json={"mode": mode})).raise_for_status()

    async def kill_worker(self) -> None:
        """`kill -9` of the worker, as the page does."""
        async with httpx.AsyncClient() as client:
            (await client.post(f"{self.shop}/kill", json={})).raise_for_status()

    async def delivery(self, order_id: str) -> dict[str, Any]:
        """A delivery as the front door shows it."""
        async with httpx.AsyncClient() as client:
            shown: dict[str, Any] = (await client.get(f"{self.shop}/deliveries/{order_id}")).json()
        return shown

    async def effects(self, order_id: str) -> dict[str, int]:
        """What the ledgers of the partners, and the shop's own table, have of a delivery."""
        async with httpx.AsyncClient() as client:
            charges = (await client.get(f"{self.payments}/charges")).json()["charges"]
            refunds = (await client.get(f"{self.payments}/refunds")).json()["refunds"]
            stock = (await client.get(f"{self.stock}/ledger")).json()["entries"]
            courier = (await client.get(f"{self.courier}/ledger")).json()["entries"]
        delivery = await self.delivery(order_id)
        found = Counter({"handed over": delivery["times_handed_over"]})
        found.update("charged" for one in charges if one["order_id"] == order_id)
        found.update("refunded" for one in refunds if one["order_id"] == order_id)
        found.update(STOCK[one["kind"]] for one in stock if one["order_id"] == order_id and one["what"])
        found.update(COURIER[one["kind"]] for one in courier if one["order_id"] == order_id and one["what"])
        return dict(+found)

    async def ledger(self) -> dict[str, Any]:
        """What the payment system says."""
        async with httpx.AsyncClient() as client:
            answer: dict[str, Any] = (await client.get(f"{self.payments}/charges")).json()
        return answer

    async def until(self, what: Callable[[dict[str, Any]], bool], *, within: float) -> float:
        """Wait for an event of the shop's stream that fits; seconds waited.

        Each event holds the orders, the status and the deliveries as the page gets them.
        """
        began = time.monotonic()
        seen: dict[str, Any] = {}
        try:
            async with (
                asyncio.timeout(within),
                httpx.AsyncClient(timeout=None) as client,  # noqa: S113 - bounded by `within`
                client.stream("GET", f"{self.shop}/events") as stream,
            ):
                event = ""
                async for line in stream.aiter_lines():
                    if line.startswith("event:"):
                        event = line.removeprefix("event:").strip()
                    elif line.startswith("data:"):
                        seen[event] = json.loads(line.removeprefix("data:"))
                        if len(seen) == 3 and what(seen):
                            return time.monotonic() - began
        except TimeoutError:
            pytest.fail(f"not seen within {within:g} s; last: {json.dumps(seen)[:2000]}")
        pytest.fail("the stream ended")

    @contextlib.asynccontextmanager
    async def operations(self) -> AsyncIterator[Operations]:
        """An operator's hands on the shop's broker."""
        async with Operations.open(self.broker) as operations:
            yield operations

    def cli(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Run an operator's command; its JSON lines."""
        folder = Path(__file__).parents[2] / "examples" / "coffee_shop"
        command = [*redrive(), *arguments, "--app", "app:app", "--app-dir", str(folder), "--json"]
        environment = {**os.environ, "REDRIVE_BROKER": self.broker}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


class CoffeeShopOnSqs(CoffeeShop):
    """The same on `redrive serve` as its Amazon SQS, with two workers; the endpoint can be killed too."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.port = free_port()
        self.broker = f"sqs://?endpoint_url=http://127.0.0.1:{self.port}&store_url=sqlite:{data / 'store.db'}"
        self.options = ["--processes", "2"]
        self.environment["REDRIVE_BROKER"] = self.broker
        self.endpoint: subprocess.Popen[str] | None = None
        data.mkdir()
        self.serve()

    def serve(self) -> None:
        """Start the endpoint, on the data that it left."""
        command = [*redrive(), "serve", "--port", str(self.port), "--database", str(self.data / "endpoint.db")]
        self.endpoint = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.endpoint.stdout is not None
        assert self.endpoint.stdout.readline().startswith("Amazon SQS")

    def kill_endpoint(self) -> None:
        """`kill -9`."""
        assert self.endpoint is not None
        with self.endpoint:
            self.endpoint.kill()

    def end(self) -> None:
        super().end()
        self.kill_endpoint()


@pytest.fixture
def coffee_shop_on_sqs(tmp_path: Path) -> Iterator[CoffeeShopOnSqs]:
    """The shop on SQS, open."""
    shop = CoffeeShopOnSqs(tmp_path / "data")
    try:
        shop.start()
        yield shop
    finally:
        shop.end()


@pytest.fixture
def coffee_shop(tmp_path: Path) -> Iterator[CoffeeShop]:
    """The shop, open."""
    shop = CoffeeShop(tmp_path / "data")
    try:
        shop.start()
        yield shop
    finally:
        shop.end()


def redrive() -> list[str]:
    """The command, on this Python."""
    return [sys.executable, "-m", "redrive"]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """The processes below one, by /proc."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
