"""The endpoint from end to end: a socket, the wire, the service, a database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from redrive.sqs_api.contract import load
from redrive.sqs_api.door import Door, Settings
from redrive.sqs_api.hosts import listen
from redrive.sqs_api.server import answering, needed
from redrive.sqs_api.service import open_service


@contextlib.asynccontextmanager
async def running(path: str, port: int, settings: Settings, *, durability: str) -> AsyncIterator[tuple[str, int]]:
    """Answer on a database file until the block ends; yields the address that it listens on.

    Args:
        path: the file, made if it is missing; other processes, and this one, may use it too.
        port: 0 takes any free one.
        settings: how the endpoint looks.
        durability: `full` or `relaxed`, as in the address of the embedded broker.

    Raises:
        ConfigurationError: If it would listen beyond this machine without keys.
        DatabaseUnusable: If the file cannot be used.
        DeclarationError: If botocore or httptools is not installed.
        OperationRefused: If the port is taken.
    """
    contract = load()
    needed()
    with listen(settings.host, port, signed=bool(settings.keys)) as listener:
        async with (
            open_service(path, durability=durability) as service,
            answering(Door(service, contract, settings), listener),
        ):
            yield listener.getsockname()
