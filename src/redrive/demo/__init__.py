"""`redrive demo`: the coffee shop in a few processes, on loopback, with its data in one folder.

The partners (payments, stock and courier), the worker (a supervisor and its child) and the front door are started in
this order and stopped in the reverse one, so that what is in flight can finish. All hang on this process: if it is
killed, they go too.
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
    urls = {"shop": f"http://127.0.0.1:{shop_port}", "payments": f"http://127.0.0.1:{payments_port}"}
    listeners = {"stock": _listener(), "courier": _listener()}
    urls |= {name: f"http://127.0.0.1:{one.getsockname()[1]}" for name, one in listeners.items()}
    environment = {
        "REDRIVE_BROKER": f"sqlite:{data / 'coffee.db'}",
        **os.environ,
        **{f"{name.upper()}_DATABASE": str(data / f"{name}.db") for name in urls},
        **{f"{name.upper()}_URL": url for name, url in urls.items()},
    }
    stages: list[list[_Part]] = []
    try:
        stages.append([await _partner("payments", ["--port", str(payments_port)], environment)])
        for name, listener in listeners.items():
            stages[0].append(await _inheriting(name, listener, environment))
        for name, command in _own(shop_port, processes).items():
            stages.append([_Part(name, await _start(command, environment))])
        parts = [part for stage in stages for part in stage]
        if not await _until_up(parts, stop, [f"{urls['payments']}/charges", f"{urls['shop']}/status"]):
            return 1
        if not stop.is_set():
            broker = os.environ.get("REDRIVE_BROKER")
            _greet({**urls, "data": str(data), **({"broker": broker} if broker is not None else {})})
        return await _until_told(parts, stop)
    finally:
        await _stop_all(stages)


def _own(shop_port: int, processes: int) -> dict[str, list[str]]:
    """The commands of what is the shop's own."""
    worker = ["-m", "redrive.supervisor", "app:app", "--app-dir", str(_shop_folder()), "--grace", str(_GRACE)]
    worker += ["--processes", str(processes), "--log-level", "warning"]
    return {"worker": worker, "shop": ["shop.py", "--port", str(shop_port), "--lifeline"]}


def _listener() -> socket.socket:
    """A free port that listens already: whoever calls before its service is up waits."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


async def _inheriting(name: str, listener: socket.socket, environment: Mapping[str, str]) -> _Part:
    """A partner that only the shop calls, on a port that nobody has to choose."""
    with listener:
        return await _partner(name, ["--listener", str(listener.fileno())], environment, listener.fileno())


async def _partner(name: str, options: list[str], environment: Mapping[str, str], *inherited: int) -> _Part:
    return _Part(name, await _start([f"{name}.py", *options, "--lifeline"], environment, *inherited))


async def _start(command: list[str], environment: Mapping[str, str], *inherited: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=_shop_folder(),
        env=environment,
        stdin=asyncio.subprocess.PIPE,  # its end tells the child that this process is gone
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=inherited,
        start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others in order
    )


async def _until_up(parts: list[_Part], stop: asyncio.Event, urls: list[str]) -> bool:
    """Wait for the services to answer; False when a part ended or it took too long."""
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


async def _stop_all(stages: list[list[_Part]]) -> None:
    """The front door first: no more orders; then the worker, which still needs its partners; then those."""
    for stage in reversed(stages):
        await asyncio.gather(*(_stop(part.child) for part in stage))


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.terminate()
        try:
            async with asyncio.timeout(_GRACE + _KILL_AFTER):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


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


def _greet(places: Mapping[str, str]) -> None:
    print("The coffee shop is open:")
    for name, place in places.items():
        print(f"  {name:<8}  {place}")
    print("Order a coffee, break the payment system, order more, and fix it. Ctrl-C stops everything.", flush=True)
