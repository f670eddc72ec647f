"""moto's server as a process of its own, whose clock can be advanced: `advance SECONDS` on its standard input.

Prints its port, and a line for each advance. Ends with its standard input.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import moto.core.utils
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.sqs.models import Queue, SQSBackend
from werkzeug.serving import WSGIRequestHandler

_turn = threading.RLock()
"""moto's threads hand a message out twice, and lose one that is sent while another is deleted: here they take turns."""

_UNSAFE = ("send_message", "send_message_batch", "receive_message", "delete_message", "change_message_visibility")


class _Clock:
    def __init__(self) -> None:
        self.ahead = dt.timedelta()
        self._true = moto.core.utils.utcnow

    def utcnow(self) -> dt.datetime:
        now: dt.datetime = self._true()
        return now + self.ahead


def _in_turn(work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _turn:
            return work(*args, **kwargs)

    return call


def _wait_out_of_turn(queue: Queue, timeout: float) -> None:
    _turn.release()
    try:
        with queue._messages_lock:
            queue._messages_lock.wait(timeout)
    finally:
        _turn.acquire()


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
    clock = _Clock()
    moto.core.utils.utcnow = clock.utcnow
    for name in (
        "send_message",
        "send_message_batch",
        "receive_message",
        "delete_message",
        "change_message_visibility",
    ):
        setattr(SQSBackend, name, _in_turn(getattr(SQSBackend, name)))
    Queue.wait_for_messages = _wait_out_of_turn
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        clock.ahead += dt.timedelta(seconds=float(line.split()[1]))
        sys.stdout.write("advanced\n")
        sys.stdout.flush()
    server.stop()


main()
