"""Runs a test of a behaviour suite in-process, to see whether it fails."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import pytest


def names_of(suite: type) -> list[str]:
    """The names of its tests."""
    return [name for name, _ in inspect.getmembers(suite, inspect.iscoroutinefunction) if name.startswith("test_")]


async def fails(test: Callable[[], Awaitable[object]]) -> bool:
    """Whether it fails; one that is skipped does not."""
    try:
        await test()
    except pytest.skip.Exception:
        return False
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, the test did not pass
        return True
    return False
