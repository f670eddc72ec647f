"""What an operator can do, said once for the CLI, the console and programs.

It needs the broker and the store, and not the application's code: a worker leaves a manifest. With the code at hand,
bodies are checked against the queue's own type; without it, against the schema in the manifest.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, Self

from redrive import circuit as rules
from redrive.app import App
from redrive.broker import Acknowledge, Broker, Outgoing, Page
from redrive.catalogue import DEAD, DISCARDED, REDRIVEN, Catalogue, Letter
from redrive.circuit import Circuit, CircuitPolicy, State
from redrive.circuits import SharedCircuit
from redrive.clock import Clock, SystemClock
from redrive.connections import connect
from redrive.consumer import dead_queue
from redrive.errors import OperationRefused, PayloadError, VersionConflict
from redrive.manifest import manifests
from redrive.message import Delivery, Message, message_id
from redrive.moves import forward, move
from redrive.payload import check_json
from redrive.store import ABSENT, CIRCUITS, CONTROLS, WORKERS, Store
from redrive.worker import ALIVE_MS

_PARKED = "-parked-"
_LEASE = 30.0
_PART = 100

Checked = Literal["type", "schema", "json"]
"""How a body was checked: by the queue's own type, by the schema in the manifest, or as JSON alone (nothing is
known)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue, with what waits behind it."""

    name: str
    ready: int
    in_flight: int
    delayed: int
    parked: int
    dead: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyView:
    """One dependency and its circuit."""

    name: str
    state: str
    generation: int
    reason: str
    owner: str
    changed_at_ms: int
    next_canary_in: float | None
    """Seconds until the next probe; None unless open."""
    failed_probes: int
    until_ms: int | None
    calls: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One worker, as it last said."""

    name: str
    app: str
    alive: bool
    pid: int
    at_ms: int
    queues: list[str]
    counters: dict[str, Any]

    @property
    def runs(self) -> int:
        """Handler runs since it started."""
        return int(self.counters["runs"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything at once."""

    queues: dict[str, QueueView]
    dependencies: dict[str, DependencyView]
    workers: list[WorkerView] = field(default_factory=list)

    @property
    def handler_runs(self) -> int:
        """Handler runs of all workers of the last day."""
        return sum(worker.runs for worker in self.workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedView:
    """One parked queue."""

    queue: str
    dependency: str
    parked_queue: str
    count: int
    oldest_sent_at_ms: int | None


class Operations:
    """An operator's hands on one broker and store."""

    def __init__(
        self, broker: Broker, store: Store, *, clock: Clock, app: App[Any] | None = None, who: str | None = None
    ) -> None:
        self._broker, self._store, self._clock, self._app = broker, store, clock, app
        self._who = who or getpass.getuser()
        self._catalogue = Catalogue(store, clock)
        self._random = Random()  # noqa: S311 - jitter and ids, no secrets

    @classmethod
    def of(cls, app: App[Any], *, who: str | None = None) -> Self:
        """On an open application.

        Raises:
            NotOpen: If it is not.
        """
        runtime = app.runtime
        return cls(runtime.broker, runtime.store, clock=runtime.clock, app=app, who=who)

    @classmethod
    @asynccontextmanager
    async def open(cls, address: str, *, who: str | None = None) -> AsyncIterator[Self]:
        """On a broker's address, without the application's code."""
        clock = SystemClock()
        broker, store = await asyncio.to_thread(connect, address, clock)
        try:
            yield cls(broker, store, clock=clock, who=who)
        finally:
            await broker.close()
            await store.close()

    # Looking

    async def overview(self) -> Overview:
        """Queues, dependencies and workers."""
        workers = await self.workers()
        names = await self._broker.queues()
        queues = [await self._queue_view(name, names) for name in names if _is_consumed(name)]
        return Overview(
            queues={view.name: view for view in queues},
            dependencies={name: await self._dependency_view(name, workers) for name in await self._dependencies(names)},
            workers=workers,
        )

    async def queue(self, name: str) -> QueueView:
        """One queue.

        Raises:
            QueueNotFound: If it does not exist.
        """
        return await self._queue_view(name, await self._broker.queues())

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

    async def peek(self, queue: str, *, limit: int = 10, cursor: str | None = None) -> Page:
        """Look at messages of any queue, parked and dead ones too, without receiving them."""
        return await self._broker.browse(queue, cursor=cursor, limit=limit)

    # Queues

    async def send(
        self,
        queue: str,
        body: bytes,
        attributes: Mapping[str, str] | None = None,
        *,
        delay: float = 0.0,
        unchecked: bool = False,
    ) -> str:
        """Put a body into a queue, checked unless told otherwise; its message id.

        Raises:
            PayloadError: If it does not fit the queue.
            QueueNotFound: If the queue does not exist.
        """
        if not unchecked:
            await self.check(queue, body)
        now = self._clock.now_ms()
        message = Message(
            id=message_id(now, self._random.randbytes(10)),
            body=body,
            sent_at_ms=now,
            attributes=dict(attributes or {}),
        )
        (error,) = await self._broker.send(queue, [Outgoing(message=message, delay=delay)])
        if error is not None:
            raise error
        return message.id

    async def purge(self, queue: str) -> int:
        """Delete everything in a queue, in flight too; how many there were.

        Raises:
            QueueNotFound: If it does not exist.
            OperationRefused: If it is a dead-letter queue: its letters are discarded one by one, which is written down.
        """
        if queue.endswith("-dead"):
            raise OperationRefused(
                f"queue {queue!r}", "holds dead letters", "use `dead discard --all`, which writes down who did it"
            )
        return await self._broker.purge(queue)

    async def pause(self, queue: str) -> None:
        """Let consumers take nothing more from a queue; within a second, on all workers."""
        await self._broker.depth(queue)
        await self._put_control(f"paused/{queue}", {"who": self._who, "at_ms": self._clock.now_ms()})

    async def resume(self, queue: str) -> None:
        """Let consumers take messages again."""
        await self._broker.depth(queue)
        entry = await self._store.get(CONTROLS, f"paused/{queue}")
        if entry is not None:
            await self._store.delete(CONTROLS, entry.key, if_version=entry.version)

    async def check(self, queue: str, body: bytes) -> Checked:
        """Hold a body against what is known of its queue; how it was checked.

        Raises:
            PayloadError: If it does not fit.
        """
        if self._app is not None and queue in self._app.queues:
            self._app.queues[queue].payload.decode(body)
            return "type"
        document = check_json(queue, body)
        schema = await self._schema(queue)
        if schema is None:
            return "json"
        _check_schema(queue, document, schema)
        return "schema"

    # Dead letters

    async def letters(self, queue: str | None = None, *, state: str | None = DEAD) -> AsyncIterator[Letter]:
        """The letters of one queue, or of all; by queue and original send time."""
        names = [queue] if queue is not None else [one for one in await self._broker.queues() if _is_consumed(one)]
        for name in names:
            async for letter in self._catalogue.letters(name, state=state):
                yield letter

    async def letter(self, prefix: str, queue: str | None = None) -> Letter:
        """The one letter whose id begins with `prefix`, in whatever state.

        Raises:
            OperationRefused: If there is none, or more than one.
        """
        if queue is not None and (exact := await self._catalogue.letter(queue, prefix)) is not None:
            return exact
        found = [one async for one in self.letters(queue, state=None) if one.id.startswith(prefix)]
        if not found:
            raise OperationRefused(f"letter {prefix!r}", "does not exist", "see `redrive dead ls`")
        if len(found) > 1:
            raise OperationRefused(f"letter {prefix!r}", f"could be any of {len(found)}", "give more of the id")
        return found[0]

    async def body(self, letter: Letter) -> bytes:
        """A letter's body."""
        return await self._catalogue.body(letter)

    async def edit(self, letter: Letter, body: bytes) -> Checked:
        """Check an edited body, and change nothing; `redrive` with it sends it.

        Raises:
            PayloadError: If it would be dead again at once.
            OperationRefused: If the letter is not dead any more.
        """
        _must_be_dead(letter)
        return await self.check(letter.queue, body)

    async def redrive(self, letter: Letter, body: bytes | None = None) -> None:
        """Send a letter back to its queue under its own id, edited if a body is given, with its counters at zero.

        The message is moved first and the catalogue told afterwards: a crash in between leaves an entry that says dead
        for a message that is not; asking again says so and puts it right.

        Raises:
            PayloadError: If the edited body does not fit.
            OperationRefused: If the letter is not dead any more, or somebody has it in hand.
        """
        _must_be_dead(letter)
        if body is not None:
            await self.check(letter.queue, body)
        delivery = await self._take(letter)
        message = delivery.message
        notes = message.notes.fresh(self._clock.now_ms())
        changed = replace(message, notes=notes, body=message.body if body is None else body)
        (error,) = await self._broker.settle([forward(delivery, letter.queue, changed)])
        if error is not None:
            raise error
        await self._settle(letter, REDRIVEN, "redriven" if body is None else "edited and redriven", body)

    async def discard(self, letter: Letter) -> None:
        """Delete a letter for good; its entry stays in the catalogue for 14 days.

        Raises:
            OperationRefused: If the letter is not dead any more, or somebody has it in hand.
        """
        _must_be_dead(letter)
        delivery = await self._take(letter)
        (error,) = await self._broker.settle([Acknowledge(delivery=delivery)])
        if error is not None:
            raise error
        await self._settle(letter, DISCARDED, "discarded")

    # Parked messages

    async def parked(self, dependency: str | None = None) -> list[ParkedView]:
        """The parked queues, of one dependency or of all."""
        views = []
        for name in await self._broker.queues():
            queue, found, need = name.partition(_PARKED)
            if found and dependency in {None, need}:
                count = (await self._broker.depth(name)).total
                first = (await self._broker.browse(name, limit=1)).messages if count else []
                views.append(
                    ParkedView(
                        queue=queue,
                        dependency=need,
                        parked_queue=name,
                        count=count,
                        oldest_sent_at_ms=first[0].sent_at_ms if first else None,
                    )
                )
        return views

    async def redrive_parked(
        self, dependency: str, queue: str | None = None, *, limit: int | None = None, rate: float | None = None
    ) -> int:
        """Move parked messages back by hand, at most what is there now; how many. The healer does it by itself.

        Args:
            dependency: what they wait for.
            queue: of this queue alone.
            limit: at most so many.
            rate: messages a second; None: as fast as the broker goes.
        """
        moved = 0
        for view in await self.parked(dependency):
            if queue is None or view.queue == queue:
                left = view.count if limit is None else min(view.count, limit - moved)
                moved += await self._redrive_parked(view, left, rate)
        return moved

    # Circuits

    async def circuit(self, name: str) -> DependencyView:
        """One dependency and its circuit.

        Raises:
            OperationRefused: If no application on this broker has it.
        """
        known = await self._dependencies(await self._broker.queues())
        if name not in known:
            raise OperationRefused(
                f"dependency {name!r}", "does not exist", f"known are: {', '.join(sorted(known)) or 'none yet'}"
            )
        return await self._dependency_view(name, await self.workers())

    async def force(
        self, name: str, state: Literal["open", "closed"], *, reason: str, minutes: float | None = None
    ) -> DependencyView:
        """Hold a circuit open or closed, until `automatic` or for some minutes."""
        await self.circuit(name)
        now = self._clock.now_ms()
        until = None if minutes is None else now + int(minutes * 60_000)
        target = State.FORCED_OPEN if state == "open" else State.FORCED_CLOSED
        await self._shared(name).change(
            lambda old: rules.forced(old, target, owner=self._who, reason=reason, now_ms=now, until_ms=until)
        )
        return await self.circuit(name)

    async def automatic(self, name: str) -> DependencyView:
        """Give a circuit back to its rules: what was forced open is probed, what was forced closed stays closed."""
        view = await self.circuit(name)
        policy = CircuitPolicy(probe_every=await self._probe_every(view.name))
        now = self._clock.now_ms()
        await self._shared(name).change(
            lambda old: rules.automatic(old, policy, owner=self._who, now_ms=now, random=self._random.random())
        )
        return await self.circuit(name)

    # Below

    async def _queue_view(self, name: str, names: list[str]) -> QueueView:
        depth = await self._broker.depth(name)
        parked = [await self._broker.depth(one) for one in names if one.startswith(f"{name}{_PARKED}")]
        dead = await self._broker.depth(dead_queue(name)) if dead_queue(name) in names else None
        return QueueView(
            name=name,
            ready=depth.ready,
            in_flight=depth.in_flight,
            delayed=depth.delayed,
            parked=sum(one.total for one in parked),
            dead=0 if dead is None else dead.total,
            paused=await self._store.get(CONTROLS, f"paused/{name}") is not None,
        )

    async def _dependencies(self, names: list[str]) -> list[str]:
        known = {name.partition(_PARKED)[2] for name in names if _PARKED in name}
        known |= {entry.key for entry in await self._store.scan(CIRCUITS, limit=1000)}
        for document in await manifests(self._store):
            known |= set(document["dependencies"])
        return sorted(known)

    async def _dependency_view(self, name: str, workers: list[WorkerView]) -> DependencyView:
        entry = await self._store.get(CIRCUITS, name)
        circuit = Circuit() if entry is None else Circuit.from_json(entry.value)
        left = None if circuit.probe_at_ms is None else max(0.0, (circuit.probe_at_ms - self._clock.now_ms()) / 1000)
        return DependencyView(
            name=name,
            state=circuit.state.value,
            generation=circuit.generation,
            reason=circuit.reason,
            owner=circuit.owner,
            changed_at_ms=circuit.changed_at_ms,
            next_canary_in=left,
            failed_probes=circuit.failed_probes,
            until_ms=circuit.until_ms,
            calls=sum(worker.counters["calls"].get(name, 0) for worker in workers),
            failures=sum(worker.counters["failures"].get(name, 0) for worker in workers),
        )

    async def _probe_every(self, name: str) -> float:
        for document in await manifests(self._store):
            if name in document["dependencies"]:
                return float(document["dependencies"][name]["probe_every"])
        return CircuitPolicy().probe_every

    def _shared(self, name: str) -> SharedCircuit:
        return SharedCircuit(name, self._store, self._clock)

    async def _schema(self, queue: str) -> dict[str, Any] | None:
        for document in await manifests(self._store):
            if queue in document["queues"]:
                schema: dict[str, Any] | None = document["queues"][queue]["schema"]
                return schema
        return None

    async def _take(self, letter: Letter) -> Delivery:
        """Receive one letter from its dead-letter queue."""
        if not self._broker.capabilities.selects:
            raise OperationRefused(f"letter {letter.id!r}", "cannot be taken one by one here", "redrive them all")
        source = dead_queue(letter.queue)
        taken = await self._broker.receive(source, limit=1, lease=_LEASE, ids=[letter.id])
        if taken:
            return taken[0]
        if await self._is_in(source, letter.id):
            raise OperationRefused(f"letter {letter.id!r}", "is in somebody else's hands", "try again in 30 s")
        await self._settle(letter, REDRIVEN, "found gone from the dead-letter queue")
        raise OperationRefused(f"letter {letter.id!r}", "is not dead any more", "see `redrive dead show`")

    async def _is_in(self, queue: str, identity: str) -> bool:
        cursor = None
        while True:
            page = await self._broker.browse(queue, cursor=cursor, limit=_PART)
            if any(message.id == identity for message in page.messages):
                return True
            if (cursor := page.cursor) is None:
                return False

    async def _settle(self, letter: Letter, state: str, what: str, body: bytes | None = None) -> None:
        try:
            await self._catalogue.settle(letter, state=state, who=self._who, what=what, body=body)
        except VersionConflict:
            return  # it died again already, and the entry says so

    async def _redrive_parked(self, view: ParkedView, left: int, rate: float | None) -> int:
        moved = 0
        while left > moved:
            part = min(left - moved, _PART if rate is None else max(1, int(rate)))
            done = await move(self._broker, view.parked_queue, view.queue, limit=part)
            moved += done
            if not done:
                break
            if rate is not None and left > moved:
                await asyncio.sleep(done / rate)
        return moved

    async def _put_control(self, key: str, value: dict[str, Any]) -> None:
        entry = await self._store.get(CONTROLS, key)
        version = ABSENT if entry is None else entry.version
        await self._store.put(CONTROLS, key, json.dumps(value).encode(), if_version=version)


def _is_consumed(name: str) -> bool:
    return not name.endswith("-dead") and _PARKED not in name


def _must_be_dead(letter: Letter) -> None:
    if letter.state != DEAD:
        raise OperationRefused(f"letter {letter.id!r}", f"is {letter.state}", "only dead letters can be changed")


def _check_schema(queue: str, document: object, schema: dict[str, Any]) -> None:
    try:
        import jsonschema_rs  # noqa: PLC0415 - an extra
    except ImportError:
        raise OperationRefused(
            f"a body for queue {queue!r}",
            "cannot be checked without the application's code",
            "name it with --app, or pip install 'redrive[schema]'",
        ) from None
    problems = [
        f"{'.'.join(map(str, error.instance_path)) or 'the whole'}: {_expected(schema, list(error.schema_path))}"
        for error in jsonschema_rs.validator_for(schema).iter_errors(document)
    ]
    if problems:
        raise PayloadError(queue, "; ".join(problems[:3]))


def _expected(schema: Any, path: list[str | int]) -> str:  # noqa: ANN401 - JSON
    """What the schema asks for at the place that was violated; never what stood there."""
    for step in path:
        if isinstance(schema, (dict, list)) and (not isinstance(schema, dict) or step in schema):
            schema = schema[step]  # type: ignore[index]
    return f"{path[-1] if path else 'schema'} {json.dumps(schema)[:200]}"
