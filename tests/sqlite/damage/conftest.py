"""Databases to break, made once."""

from __future__ import annotations

import pytest

from tests.sqlite.damage.sample import Sample, sample


@pytest.fixture(scope="session")
def in_file(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """One whose log was copied into the file, as workers leave it."""
    return sample(tmp_path_factory.mktemp("in-file"), in_log=False)


@pytest.fixture(scope="session")
def in_log(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """One of which half stands in the log alone, as a crash leaves it."""
    return sample(tmp_path_factory.mktemp("in-log"), in_log=True)
