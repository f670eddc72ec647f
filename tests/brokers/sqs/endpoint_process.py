"""Our own SQS endpoint as a process of its own, in virtual time: `advance SECONDS` on its standard input.

Takes the folder of its database and, if it is to check signatures, ID:SECRET. Prints its port, and a line for each
advance. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from redrive.clock import ManualClock
from redrive.sqlite.writer import FileDatabase
from redrive.sqs_api.contract import load
from redrive.sqs_api.door import Door, Settings
from redrive.sqs_api.hosts import listen
from redrive.sqs_api.server import answering, new_loop
from redrive.sqs_api.service import EndpointService
from redrive.sqs_api.signatures import parsed_keys


async def main(folder: str, *keys: str) -> None:
    clock = ManualClock()
    service = EndpointService(FileDatabase(str(Path(folder) / "endpoint.db"), clock))
    settings = Settings(
        host="127.0.0.1", account="000000000000", region="us-east-1", keys=parsed_keys(*keys) if keys else {}
    )
    with listen("127.0.0.1", 0, signed=bool(keys)) as listener:
        async with answering(Door(service, load(), settings), listener):
            sys.stdout.write(f"{listener.getsockname()[1]}\n")
            sys.stdout.flush()
            while line := await asyncio.to_thread(sys.stdin.readline):
                clock.advance(float(line.split()[1]))
                sys.stdout.write("advanced\n")
                sys.stdout.flush()


with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main(*sys.argv[1:]))
