"""Four policies for one outage: 1,000 orders of the coffee shop, whose payment system is down for a minute.

    python benchmarks/policies.py [--short] [--json FILE] [--folder FOLDER]

Ten orders a second come in, payments are down from the 20th to the 80th second. All four shifts run at the same time,
each with a broker, a payment system and a table of its own: they do little but wait. What the policies are and what
they are made of stands in `outages/shift.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ledger import Miscounted
from machine import introduce, surroundings
from rich.console import Console
from rich.table import Table
from workload import end_on_sigterm, shown

HERE = Path(__file__).resolve().parent
SHOP = HERE.parent / "examples" / "coffee_shop"
_FOLDER = HERE.parent / "build" / "bench"
POLICIES = {
    "no-dlq": "no dead-letter queue",
    "dlq": "dead-letter queue after 3 receives",
    "backoff": "backoff, 1 s to 60 s",
    "circuit": "redrive: circuit, parked, canary",
}
_FULL = {"orders": 1_000, "per_second": 10.0, "down_at": 20.0, "down_for": 60.0, "lease": 10.0}
_SHORT = {"orders": 40, "per_second": 20.0, "down_at": 0.5, "down_for": 1.0, "lease": 2.0}


def main() -> int:
    """Run all four."""
    end_on_sigterm()
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    plan = _SHORT if options.short else _FULL
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        document = {**surroundings(Path(made)), "plan": plan, "short": options.short}
        introduce(console, document)
        document["results"] = asyncio.run(_all(plan, Path(made)))
    document["load_after"] = os.getloadavg()
    console.print(f"plan {plan}")
    console.print(_table(document["results"]))
    console.print(f"load average before {document['load'][0]:.2f}, after {document['load_after'][0]:.2f}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Four policies for one outage of the coffee shop's payments.")
    parser.add_argument("--short", action="store_true", help="few orders, one second: shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample there")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the files lie; on a real disk")
    return parser.parse_args()


async def _all(plan: dict[str, float], folder: Path) -> list[dict[str, Any]]:
    return await asyncio.gather(*(_one(policy, plan, folder / policy) for policy in POLICIES))


async def _one(policy: str, plan: dict[str, float], folder: Path) -> dict[str, Any]:
    """One shift, in a process of its own.

    Raises:
        Miscounted: If the orders do not add up, or one was charged twice.
    """
    folder.mkdir()  # noqa: ASYNC240 - before anything is waited for
    async with _payments(folder) as url:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REDRIVE_")},
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), str(SHOP), os.environ.get("PYTHONPATH")])),
            "PAYMENTS_URL": url,
            "SHOP_DATABASE": str(folder / "shop.db"),
        }
        command = [sys.executable, "-m", "outages.shift", policy, str(folder), *map(str, plan.values())]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=HERE, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        try:
            out, err = await process.communicate()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise RuntimeError(f"{policy}: {err.decode(errors='replace')[-2000:]}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    last = found["samples"][-1]
    if found["charges"] != found["booked"] or found["booked"] + last["dead"] + last["waiting"] != plan["orders"]:
        raise Miscounted(f"{policy}: {found['charges']} charges for {found['booked']} orders, and then {last}")
    wasted = found["calls"] - found["booked"]
    return {"policy": policy, "title": POLICIES[policy], "wasted": wasted, **found, **_outcome(found["samples"], plan)}


def _outcome(samples: list[dict[str, float]], plan: dict[str, float]) -> dict[str, float]:
    """What a shift came to; nothing waits any more once no more do than come in within half a second."""
    last, well = samples[-1], plan["down_at"] + plan["down_for"]
    few = plan["per_second"] / 2
    return {
        "paid": last["paid"],
        "dead": last["dead"],
        "invocations": last["invocations"],
        "seconds": last["seconds"],
        "deepest": max(one["waiting"] for one in samples),
        "served": max(one["served"] for one in samples if one["at"] <= well),
        "caught_up": next(one["at"] for one in samples if one["at"] > well and one["waiting"] <= few) - well,
    }


@asynccontextmanager
async def _payments(folder: Path) -> AsyncIterator[str]:
    """The shop's payment system; its address."""
    environment = {**os.environ, "PAYMENTS_DATABASE": str(folder / "payments.db")}
    command = [sys.executable, str(SHOP / "payments.py"), "--port", "0", "--lifeline"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=PIPE, stdout=PIPE)
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        yield (await process.stdout.readline()).decode().partition(": ")[2].strip()
    finally:
        await process.communicate(b"")


COLUMNS = {
    "paid": "paid",
    "dead": "dead: wait for a person",
    "wasted": "calls that failed",
    "invocations": "invocations",
    "seconds": "handler seconds",
    "deepest": "most waiting",
    "served": "coffees served until the heal",
    "caught_up": "seconds from the heal until nothing waits",
}
"""What a table shows of each policy."""


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table("policy", *COLUMNS.values())
    for result in results:
        table.add_row(result["title"], *(shown(result[name]) for name in COLUMNS))
    return table


if __name__ == "__main__":
    sys.exit(main())
