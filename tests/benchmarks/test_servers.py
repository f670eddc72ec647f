"""The servers that peers need are ours alone, and end with the run."""

from __future__ import annotations

import importlib
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.benchmarks.running import BENCHMARKS, passable


@pytest.mark.parametrize("name", ["postgres", "rabbitmq"])
def test_a_server_is_there_while_it_is_needed_and_no_longer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback, on a port of its own; where it is not installed it is said to be missing."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    servers: Any = importlib.import_module("servers")
    try:
        with passable() as folder, getattr(servers, name)(folder) as url:
            address = urlsplit(url)
            assert address.hostname == "127.0.0.1"
            socket.create_connection(("127.0.0.1", address.port or 0), timeout=5).close()
    except servers.Missing as missing:
        pytest.skip(str(missing))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", address.port or 0), timeout=5)
