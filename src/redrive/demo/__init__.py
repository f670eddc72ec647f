"""`redrive demo`: the coffee shop in a few processes, on loopback, with its data in one folder.

The payment system, the worker (a supervisor and its child) and the front door are started in this order and stopped in
the reverse one, so that what is in flight can finish. All three hang on this process: if it is killed, they go too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from redrive.errors import OperationRefused

SHOP_PORT, PAYMENTS_PORT = 8000, 8001
_STARTED_WITHIN = 30.0
_GRACE = 2.2
_KILL_AFTER = 0.5


@dataclass(frozen=True, slots=True)
class _Part:
    """One process of the demo."""

    name: str
    child: asyncio.subprocess.Process


def default_data() -> Path:
    """Where the demo keeps its orders unless told otherwise."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "redrive" / "coffee-shop"


def run(
    data: Path | None = None, shop_port: int = SHOP_PORT, payments_port: int = PAYMENTS_PORT, processes: int = 1
) -> int:
    """Run the coffee shop until SIGINT or SIGTERM; 0 when it was stopped, 1 when a part of it failed. Blocks.

    Its broker is the one that REDRIVE_BROKER names, or a file in the folder of its data.

    Raises:
        OperationRefused: If a port is taken, or the data folder cannot be made.
    """
    for port, option in ((shop_port, "--port"), (payments_port, "--payments-port")):
        _must_be_free(port, option)
    folder = data or default_data()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperationRefused(
            f"folder {str(folder)!r}", f"cannot be made ({error.strerror})", "name one by --data"
        ) from None
    return asyncio.run(_run(folder.resolve(), shop_port, payments_port, processes))


async def _run(data: Path, shop_port: int, payments_port: int, processes: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    shop_url, payments_url = f"http://127.0.0.1:{shop_port}", f"http://127.0.0.1:{payments_port}"
    environment = {
        "REDRIVE_BROKER": f"sqlite:{data / 'coffee.db'}",
        **os.environ,
        "SHOP_DATABASE": str(data / "shop.db"),
        "PAYMENTS_DATABASE": str(data / "payments.db"),
        "PAYMENTS_URL": payments_url,
    }
    folder = str(_shop_folder())
    worker = ["-m", "redrive.supervisor", "app:app", "--app-dir", folder, "--grace", str(_GRACE)]
    worker += ["--processes", str(processes)]
    commands = {
        "payments": ["payments.py", "--port", str(payments_port), "--lifeline"],
        "worker": [*worker, "--log-level", "warning"],
        "shop": ["shop.py", "--port", str(shop_port), "--lifeline"],
    }
    parts: list[_Part] = []
    try:
        for name, command in commands.items():
            parts.append(_Part(name, await _start(command, folder, environment)))
        if not await _until_up(parts, stop, [f"{payments_url}/charges", f"{shop_url}/status"]):
            return 1
        if not stop.is_set():
            _greet(shop_url, payments_url, data, os.environ.get("REDRIVE_BROKER"))
        return await _until_told(parts, stop)
    finally:
        await _stop_all(parts)


async def _start(command: list[str], folder: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.PIPE,  # its end tells the child that this process is gone
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others in order
    )


async def _until_up(parts: list[_Part], stop: asyncio.Event, urls: list[str]) -> bool:
    """Wait for both services to answer; False when a part ended or it took too long."""
    async with httpx.AsyncClient(timeout=1.0) as client:
        for url in urls:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STARTED_WITHIN):
                    while not stop.is_set() and not _ended(parts) and not await _answers(client, url):
                        await _pause(stop, 0.05)
            if _ended(parts):
                return False
            if not stop.is_set() and not await _answers(client, url):
                print(f"error: {url} did not answer within {_STARTED_WITHIN:g} s", file=sys.stderr)
                return False
    return True


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        await client.get(url)
    except httpx.TransportError:
        return False
    return True


async def _until_told(parts: list[_Part], stop: asyncio.Event) -> int:
    waiting = asyncio.create_task(stop.wait())
    endings = [asyncio.create_task(part.child.wait()) for part in parts]
    await asyncio.wait({waiting, *endings}, return_when=asyncio.FIRST_COMPLETED)
    failed = not stop.is_set() and _ended(parts)
    for task in (waiting, *endings):
        task.cancel()
    await asyncio.gather(waiting, *endings, return_exceptions=True)
    return 1 if failed else 0


def _ended(parts: list[_Part]) -> bool:
    """Whether a part ended by itself; says which."""
    ended = [part for part in parts if part.child.returncode is not None]
    for part in ended:
        print(f"error: the {part.name} process ended with {part.child.returncode}; stopping the rest", file=sys.stderr)
    return bool(ended)


async def _stop_all(parts: list[_Part]) -> None:
    """The front door first: no more orders; then the worker, which still needs payments; then payments."""
    for part in reversed(parts):
        if part.child.returncode is None:
            part.child.terminate()
            try:
                async with asyncio.timeout(_GRACE + _KILL_AFTER):
                    await part.child.wait()
            except TimeoutError:
                part.child.kill()
                await part.child.wait()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _must_be_free(port: int, option: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise OperationRefused(
                f"port {port}",
                f"is taken ({error.strerror})",
                f"stop what listens there, or choose another by {option}",
            ) from None


def _shop_folder() -> Path:
    """The shop's code: in the wheel beside this module, in a checkout among the examples."""
    packaged = Path(__file__).parent / "coffee_shop"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "examples" / "coffee_shop"


def _greet(shop_url: str, payments_url: str, data: Path, broker: str | None) -> None:
    places = {"shop": shop_url, "payments": payments_url, "data": str(data)}
    if broker is not None:
        places["broker"] = broker
    print("The coffee shop is open:")
    for name, place in places.items():
        print(f"  {name:<8}  {place}")
    print("Order a coffee, break the payment system, order more, and fix it. Ctrl-C stops everything.", flush=True)
