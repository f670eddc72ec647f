"""Runs a behaviour suite in-process, to see what fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Protocol

import pytest


class Adapter(Protocol):
    async def close(self) -> None: ...


async def failures(suite: type, opened: Callable[[], tuple[object, Adapter]]) -> set[str]:
    """The names of the tests that fail; each gets a suite and an adapter of its own."""
    failed = set()
    for name, _ in inspect.getmembers(suite, inspect.iscoroutinefunction):
        if not name.startswith("test_"):
            continue
        instance, adapter = opened()
        try:
            await getattr(instance, name)(adapter)
        except pytest.skip.Exception:
            pass
        except Exception:  # noqa: BLE001 - whatever it is, the test did not pass
            failed.add(name)
        except pytest.fail.Exception:  # not an Exception: pytest.raises that saw none
            failed.add(name)
        finally:
            await adapter.close()
    return failed
