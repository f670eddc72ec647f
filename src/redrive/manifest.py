"""What a worker leaves in the store about its application, so that operators need no code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from redrive.backoff import seconds
from redrive.consumer import Consumer
from redrive.dependency import Dependency
from redrive.errors import VersionConflict
from redrive.store import ABSENT, MANIFESTS, Store

_VERSION = 1


def manifest(app: str, consumers: Sequence[Consumer[Any]], dependencies: Sequence[Dependency[Any]]) -> dict[str, Any]:
    """Queues with their schemas, needs and policies, and dependencies with theirs, as JSON."""
    return {
        "v": _VERSION,
        "app": app,
        "queues": {
            consumer.queue: {
                "schema": consumer.payload.schema(),
                "needs": sorted(consumer.needs),
                "once": consumer.once_by is not None,
                "max_attempts": consumer.policy.max_attempts,
                "max_bounces": consumer.policy.max_bounces,
                "max_crashes": consumer.policy.max_crashes,
                "max_age": consumer.policy.max_age,
                "backoff": {
                    "first": seconds(consumer.policy.backoff.first),
                    "factor": consumer.policy.backoff.factor,
                    "maximum": seconds(consumer.policy.backoff.maximum),
                },
                "dead_on": [kind.__qualname__ for kind in consumer.dead_on],
                "degraded": sorted(consumer.degraded_handlers),
                "timeout": consumer.timeout,
                "lease": consumer.lease,
                "concurrency": consumer.concurrency,
            }
            for consumer in consumers
        },
        "dependencies": {
            dependency.name: {
                "timeout": dependency.timeout,
                "concurrency": dependency.concurrency,
                "canary": dependency.canary is not None,
                "trip_after": dependency.circuit.trip_after,
                "probe_every": dependency.circuit.probe_every,
                "max_rate": dependency.max_rate,
            }
            for dependency in dependencies
        },
    }


async def leave_manifest(store: Store, document: dict[str, Any]) -> None:
    """Write the manifest if it changed; the last worker to start has the last word."""
    value = json.dumps(document, sort_keys=True).encode()
    entry = await store.get(MANIFESTS, document["app"])
    if entry is not None and entry.value == value:
        return
    try:
        await store.put(MANIFESTS, document["app"], value, if_version=ABSENT if entry is None else entry.version)
    except VersionConflict:
        return  # another worker starts too


async def manifests(store: Store) -> list[dict[str, Any]]:
    """The manifests of all applications on this store; what a later version of redrive wrote is left out."""
    documents = [json.loads(entry.value) for entry in await store.scan(MANIFESTS, limit=1000)]
    return [document for document in documents if document["v"] <= _VERSION]
