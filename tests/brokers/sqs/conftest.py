from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.brokers.sqs.server_process import Server, server

_SETTINGS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """Moto's server."""
    with server("moto_process.py") as running:
        yield running


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`redrive serve`."""
    with server("endpoint_process.py", str(tmp_path_factory.mktemp("endpoint"))) as running:
        yield running


@pytest.fixture(autouse=True)
def nobodys_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the machine has of AWS's settings is none of the tests' business."""
    nowhere = str(tmp_path_factory.getbasetemp() / "no-such-file")
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", nowhere)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
