"""What the tests of kills and of the checker share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for sockets beside the database; pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="r-") as folder:
        yield Path(folder)
