"""moto's server as a program of its own: prints its port, serves until it is ended.

DynamoDB does one thing after another to one item. moto looks at a condition and then writes, in as many threads as
there are requests, so that two writers can both find it met (seen in 2 of 40 races of fifty, with threads switched
every microsecond): one lock around the whole makes it keep its word.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

_lock = threading.Lock()
_moto = DomainDispatcherApplication(create_backend_app)


def _one_at_a_time(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    with _lock:
        return list(_moto(environ, start_response))


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as DynamoDB keeps them


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, _one_at_a_time, threaded=True, request_handler=_Handler)
    print(server.server_port, flush=True)  # noqa: T201 - whoever started it reads this
    server.serve_forever()
