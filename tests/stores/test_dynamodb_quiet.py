"""The store on DynamoDB says nothing that is no news."""

from __future__ import annotations

import logging
import secrets

import pytest

from redrive.clock import ManualClock
from redrive.store import CLAIMS
from redrive.stores.dynamodb import DynamoStore


async def test_where_credentials_were_found_is_no_news(endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    """Botocore's own line is not in a worker's log; who asks for it by the logger's level has it."""
    loggers = [logging.getLogger(name) for name in ("aiobotocore.credentials", "botocore.credentials")]
    before = [one.level for one in loggers]
    caplog.set_level(logging.INFO)
    try:
        for level, expected in ((logging.NOTSET, False), (logging.INFO, True)):
            for logger in loggers:
                logger.setLevel(level)
            caplog.clear()
            table = f"table-{secrets.token_hex(8)}"
            store = DynamoStore(ManualClock(), table=table, region="eu-west-1", endpoint_url=endpoint, declare="create")
            await store.get(CLAIMS, "key")
            await store.close()
            assert ("Found credentials" in caplog.text) is expected
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
