"""Mutants that do the same as the original, each with its reason: no test can notice them, and none should."""

from __future__ import annotations

from pathlib import Path

_LIST = Path(__file__).with_name("equivalents.txt")


def equivalents() -> set[tuple[str, str]]:
    """What was changed and how, as the reports of survivors print it."""
    lines = [line.split(" | ") for line in _LIST.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {(name, change) for name, change, _reason in lines}
