"""One of several processes whose tasks race for one idempotency key; what they got is printed as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from redrive import App


async def main(address: str, effects: Path) -> None:
    """Race, once a line came in."""
    app = App("shop", broker=address)

    @app.once(key=str)
    async def charge(_id: str) -> int:
        with effects.open("a") as file:
            file.write(f"{os.getpid()}\n")
        await asyncio.sleep(0)
        return os.getpid()

    async with app:
        print("ready", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps(await asyncio.gather(*(charge("7") for _ in range(50)))))  # noqa: T201 - likewise


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
