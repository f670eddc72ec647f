"""Sagas: look at instances, and at what the code makes of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from redrive.app import App
from redrive.consumer import Consumer
from redrive.errors import NewerRecord, NotFound, OperationRefused, QueueNotFound
from redrive.manifest import manifests
from redrive.operations.ground import Ground, is_consumed
from redrive.operations.saga_views import InstanceView, SagaPage, SagaView, instance_view, saga_view
from redrive.sagas.continuing import hindrances
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import Journal
from redrive.sagas.record import key_of
from redrive.store import SAGAS, SIGNALS, Entry

_log = logging.getLogger("redrive.saga")
PARKED = "parked"
"""A state to ask for beside those of the journal: its wake-up waits for a dependency."""
_PART = 200
_MOST_SIGNALS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindered:
    """An instance that the code cannot continue."""

    queue: str
    id: str
    state: str
    version: int | None
    """None: a later version of redrive wrote its journal."""
    problems: tuple[str, ...]


class SagaLooks(Ground):
    """Sagas: look at instances, and at what the code makes of them."""

    async def page(
        self,
        queue: str | None = None,
        *,
        state: str | None = None,
        text: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> SagaPage:
        """Some instances, by queue and id.

        Args:
            queue: of this queue alone.
            state: in this state alone; `parked` too.
            text: only those whose journal has it somewhere: id, input, arguments, results, errors. In any case.
            cursor: of the page before.
            limit: at most so many.
        """
        prefix = "" if queue is None else f"{queue}/"
        after, found = cursor or prefix, list[SagaView]()
        while entries := await self._store.scan(SAGAS, after=after, limit=_PART):
            for entry in entries:
                if not entry.key.startswith(prefix):
                    return SagaPage(sagas=tuple(found), cursor=None)
                after = entry.key
                journal = _read(entry)
                if journal is not None and _is_wanted(journal, entry, state, text):
                    found.append(saga_view(journal))
                if len(found) == limit:
                    return SagaPage(sagas=tuple(found), cursor=after)
        return SagaPage(sagas=tuple(found), cursor=None)

    async def instances(
        self, queue: str | None = None, *, state: str | None = None, text: str | None = None
    ) -> AsyncIterator[SagaView]:
        """All instances, by queue and id; as `page` chooses them."""
        cursor: str | None = None
        while True:
            page = await self.page(queue, state=state, text=text, cursor=cursor, limit=_PART)
            for one in page.sagas:
                yield one
            if (cursor := page.cursor) is None:
                return

    async def counts(self, queue: str | None = None) -> dict[str, dict[str, int]]:
        """How many instances each queue has in each state, and of these how many are `parked`. Reads them all."""
        found: dict[str, Counter[str]] = {}
        async for one in self.instances(queue):
            of_queue = found.setdefault(one.queue, Counter())
            of_queue[one.state] += 1
            of_queue[PARKED] += one.parked_for is not None
        return {name: dict(+of_queue) for name, of_queue in found.items()}

    async def named(self, prefix: str, queue: str | None = None) -> SagaView:
        """The one instance whose id is, or begins with, `prefix`.

        Raises:
            OperationRefused: If there is none, or more than one.
            QueueNotFound: If there is no such queue.
        """
        names = await self._broker.queues()
        if queue is not None and queue not in names:
            raise QueueNotFound(queue)
        queues = [queue] if queue is not None else [one for one in names if is_consumed(one)]
        exact = [await self._store.get(SAGAS, key_of(one, prefix)) for one in queues]
        found = [one for one in exact if one is not None]
        if not found:
            found = [entry for one in queues for entry in await self._beginning(key_of(one, prefix))]
        if not found:
            raise NotFound(f"saga {prefix!r}", "see `redrive saga ls`; what has ended is kept for 14 days")
        if len(found) > 1:
            remedy = "give more of the id, or its queue"
            raise OperationRefused(f"saga {prefix!r}", "could be any of several", remedy)
        return saga_view(Journal.from_json(found[0].value))

    async def instance(self, queue: str, identity: str) -> InstanceView:
        """One instance as a whole.

        Raises:
            NotFound: If there is none.
            NewerRecord: If a later version of redrive wrote it.
        """
        journal = Journal.from_json((await self._entry(queue, identity)).value)
        return instance_view(journal, await self._signals_of(journal))

    async def hindered(self, app: App[Any], queue: str | None = None) -> AsyncGenerator[Hindered, None]:
        """The instances that have not ended and that this code cannot take to their end. No step runs.

        Args:
            app: the code, which need not be open.
            queue: of this queue alone.

        Raises:
            OperationRefused: If the application has no saga of this name, and never had.
        """
        sagas = {name: one.bound_consumer for name, one in app.queues.items()}
        had = {
            name
            for document in await manifests(self._store)
            if document["app"] == app.name
            for name in document["queues"]
        }
        if queue is not None and queue not in sagas.keys() | had:
            known = ", ".join(name for name, one in sagas.items() if isinstance(one, SagaConsumer))
            raise NotFound(f"saga {queue!r} of application {app.name!r}", f"it has: {known or 'none'}")
        for name in [queue] if queue is not None else sorted(sagas.keys() | had):
            consumer = sagas.get(name)
            if isinstance(consumer, SagaConsumer):
                consumer.prepare()
            async for one in self._hindered_of(name, consumer):
                yield one

    async def _hindered_of(self, queue: str, consumer: Consumer[Any] | None) -> AsyncGenerator[Hindered, None]:
        after = prefix = f"{queue}/"
        while entries := await self._store.scan(SAGAS, after=after, limit=_PART):
            for entry in entries:
                if not entry.key.startswith(prefix):
                    return
                if (found := await _hindered(entry, queue, consumer)) is not None:
                    yield found
            after = entries[-1].key

    async def _entry(self, queue: str, identity: str) -> Entry:
        entry = await self._store.get(SAGAS, key_of(queue, identity))
        if entry is None:
            raise NotFound(
                f"saga {identity!r} of {queue!r}", "see `redrive saga ls`; what has ended is kept for 14 days"
            )
        return entry

    async def _beginning(self, key: str) -> list[Entry]:
        """Up to two entries whose keys begin like this."""
        return [one for one in await self._store.scan(SAGAS, after=key, limit=2) if one.key.startswith(key)]

    async def _signals_of(self, journal: Journal) -> tuple[str, ...]:
        """Names of the signals that came and were not taken."""
        prefix = f"{key_of(journal.saga, journal.id)}/"
        used = {one.value["key"] for one in journal.facts if one.kind == "wait" and one.value}
        entries = await self._store.scan(SIGNALS, after=prefix, limit=_MOST_SIGNALS)
        found = [one.key for one in entries if one.key.startswith(prefix) and one.key not in used]
        return tuple(key.removeprefix(prefix).partition("/")[0] for key in found)


async def _hindered(entry: Entry, queue: str, consumer: Consumer[Any] | None) -> Hindered | None:
    try:
        journal = Journal.from_json(entry.value)
    except NewerRecord as error:
        identity = entry.key.partition("/")[2].replace("%2F", "/").replace("%25", "%")
        return Hindered(queue=queue, id=identity, state="unknown", version=None, problems=(str(error),))
    if journal.is_settled:
        return None
    if isinstance(consumer, SagaConsumer):
        problems = await hindrances(consumer, journal)
    else:
        problems = [f"the code has no saga of queue {queue!r} any more"]
    if not problems:
        return None
    return Hindered(
        queue=queue, id=journal.id, state=journal.state.value, version=journal.version, problems=tuple(problems)
    )


def _read(entry: Entry) -> Journal | None:
    try:
        return Journal.from_json(entry.value)
    except NewerRecord as error:
        _log.warning("saga %s is left out: %s", entry.key, error)
        return None


def _is_wanted(journal: Journal, entry: Entry, state: str | None, text: str | None) -> bool:
    if text is not None and text.casefold() not in entry.value.decode().casefold():
        return False
    return state in {None, journal.state.value} or (state == PARKED and journal.parked_for is not None)
