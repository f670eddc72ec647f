"""Write `journal-1.json`: journals of format 1 in each state, as redrive 0.1 writes them. Run once, and never again.

    python -m tests.sagas.golden.record

Later versions read what stands in the file; a change of the format gets a file of its own beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from redrive import Reject
from tests.sagas.cutting import Fate, Killed, mortal
from tests.sagas.golden.shop import GoldenShop

FILE = Path(__file__).with_name("journal-1.json")


async def written(fate: Fate, seconds: float, *, prepare: Any = None, order: str) -> dict[str, Any]:
    """One journal, as it stands after so long or after its process has died."""
    shop = GoldenShop()
    if prepare is not None:
        prepare(shop)
    async with shop.app.test(resources=shop.services, **mortal(fate)) as t:
        await shop.orders.send(order)
        with contextlib.suppress(Killed):
            await t.advance(seconds)
        fate.dead = False
        journal = await shop.saga.journal(order)
        assert journal is not None
        if journal.owner is not None:
            journal.owner.worker = "worker-1"
        return json.loads(journal.to_json())  # type: ignore[no-any-return]


async def main() -> None:
    """Write the file."""

    def rejecting(shop: GoldenShop) -> None:
        shop.services.fail("confirm", Reject("out of oat milk"))

    def undoing(shop: GoldenShop) -> None:
        rejecting(shop)
        shop.services.fail_always("undo reserve", OSError("no answer"))

    def sticking(shop: GoldenShop) -> None:
        rejecting(shop)
        shop.services.fail("undo reserve", Reject("the shelf is gone"))

    end = Fate()

    def dying(shop: GoldenShop) -> None:
        shop.services.before["reserve"] = end.die

    quiet = Fate()
    journals = {
        "running": await written(end, 0, order="running", prepare=dying),
        "waiting": await written(quiet, 5, order="waiting"),
        "undoing": await written(quiet, 5, order="undoing", prepare=undoing),
        "stuck": await written(quiet, 5, order="stuck", prepare=sticking),
        "completed": await written(quiet, 5, order="completed"),
        "undone": await written(quiet, 5, order="undone", prepare=rejecting),
    }
    FILE.write_text(json.dumps(journals, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
