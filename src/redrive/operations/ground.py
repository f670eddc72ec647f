"""What every operation stands on: the broker, the store, and how a body is checked."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Sequence
from random import Random
from typing import Any, Literal

from redrive.app import App
from redrive.broker import Broker
from redrive.catalogue import Catalogue
from redrive.clock import Clock
from redrive.errors import BodyTooLarge, PayloadError
from redrive.manifest import manifests
from redrive.message import MAX_BODY
from redrive.operations.views import WorkerView
from redrive.payload import check_json
from redrive.store import WORKERS, Store
from redrive.worker import ALIVE_MS

PARKED = "-parked-"

Checked = Literal["type", "schema", "json"]
"""How a body was checked: by the queue's own type, by the manifest's schema, or as JSON alone (nothing is known)."""


class Ground:
    """What every operation stands on."""

    def __init__(
        self, broker: Broker, store: Store, *, clock: Clock, app: App[Any] | None = None, who: str | None = None
    ) -> None:
        self._broker, self._store, self._clock, self._app = broker, store, clock, app
        self._who = who or _user()
        self._catalogue = Catalogue(store, clock)
        self._random = Random()  # noqa: S311 - jitter and ids, no secrets

    @property
    def browses(self) -> bool:
        """Whether messages can be looked at without receiving them."""
        return self._broker.capabilities.browses

    async def workers(self) -> list[WorkerView]:
        """The workers heard of in the last day."""
        now = self._clock.now_ms()
        found = []
        for entry in await self._store.scan(WORKERS, limit=1000):
            document = json.loads(entry.value)
            found.append(
                WorkerView(
                    name=entry.key.partition("/")[2],
                    app=document["app"],
                    alive=now - document["at_ms"] < ALIVE_MS,
                    pid=document["pid"],
                    at_ms=document["at_ms"],
                    queues=document["queues"],
                    counters=document["counters"],
                )
            )
        return found

    async def check(self, queue: str, body: bytes) -> Checked:
        """Hold a body against what is known of its queue; how it was checked.

        Raises:
            PayloadError: If it does not fit.
        """
        if len(body) > MAX_BODY:
            raise BodyTooLarge(queue, len(body), MAX_BODY)
        if self._app is not None and queue in self._app.queues:
            self._app.queues[queue].payload.decode(body)
            return "type"
        document = check_json(queue, body)
        schema = await self._schema(queue)
        if schema is None:
            return "json"
        _check_schema(queue, document, schema)
        return "schema"

    async def _ours(self, names: Sequence[str]) -> list[str]:
        """Of queues that messages are sent to, those of applications; all of them, where nobody else's can be there.

        Ours is what an application declares, what a worker left in its manifest, and what something is parked for.
        Before any of that is known, every queue may be ours.
        """
        consumed = [name for name in names if is_consumed(name)]
        if not self._broker.capabilities.shared:
            return consumed
        ours = {name.partition(PARKED)[0] for name in names if PARKED in name}
        ours |= {name for document in await manifests(self._store) for name in document["queues"]}
        ours |= set(() if self._app is None else self._app.queues)
        return [name for name in consumed if name in ours or not ours]

    async def _schema(self, queue: str) -> dict[str, Any] | None:
        for document in await manifests(self._store):
            if queue in document["queues"]:
                schema: dict[str, Any] | None = document["queues"][queue]["schema"]
                return schema
        return None


def _user() -> str:
    """Who asks, by the operating system: a name, or a number where it has none (in containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def is_consumed(name: str) -> bool:
    """Whether a queue is one that applications declare, and not one that stands behind another."""
    return not name.endswith("-dead") and PARKED not in name


def _check_schema(queue: str, document: object, schema: dict[str, Any]) -> None:
    import jsonschema_rs  # noqa: PLC0415 - only who checks a body needs it

    problems = [
        f"{'.'.join(map(str, error.instance_path)) or 'the whole'}: {_expected(schema, error)}"
        for error in jsonschema_rs.validator_for(schema).iter_errors(document)
    ]
    if problems:
        raise PayloadError(queue, "; ".join(problems[:3]))


def _expected(schema: Any, error: Any) -> str:  # noqa: ANN401 - JSON, and an error of a library without types
    """What the schema asks for at the place that was violated; never what stood there."""
    if (missing := getattr(error.kind, "property", None)) is not None:
        return f"{missing} is missing"
    path = list(error.schema_path)
    for step in path:
        if isinstance(schema, (dict, list)) and (not isinstance(schema, dict) or step in schema):
            schema = schema[step]
    return f"{path[-1] if path else 'schema'} {json.dumps(schema)[:200]}"
