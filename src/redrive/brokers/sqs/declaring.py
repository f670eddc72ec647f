"""Declaring: queues are made as they shall be, or only looked at, and what differs is said in one error.

Parked queues get an empty queue beside them, their anchor, whose dead-letter queue they are: Amazon SQS moves messages
(StartMessageMoveTask) from dead-letter queues alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redrive.broker import MOST_RECEIVES, QueueSpec
from redrive.brokers.sqs import attributes
from redrive.brokers.sqs.attributes import ALLOW, REDRIVE, Difference
from redrive.brokers.sqs.client import Client
from redrive.brokers.sqs.failures import PermissionMissing, Refused
from redrive.brokers.sqs.queues import PARKED, Located, Queues
from redrive.errors import DeclarationError, QueueConflict, QueueNotFound

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 16
"""Requests side by side."""
_PAUSES = (0.25, 0.5, 1.0, 2.0)
_EXISTS = frozenset({"QueueNameExists", "QueueAlreadyExists"})


@dataclass(slots=True)
class _Plan:
    """A queue as it shall be, and as it is."""

    spec: QueueSpec
    url: str | None = None
    found: dict[str, str] | None = None
    """Its attributes; None: it does not exist."""

    @property
    def arn(self) -> str:
        return (self.found or {}).get("QueueArn", "")


class Declarer:
    """Makes or verifies the queues of one client."""

    def __init__(self, client: Client, queues: Queues) -> None:
        self._client, self._queues = client, queues

    async def create(self, specs: Sequence[QueueSpec]) -> None:
        """Make the queues, and change what differs; what is as it should be costs two reads.

        A crash in between leaves some of them made; declaring again makes the rest.

        Raises:
            LimitExceeded: If a setting cannot be; nothing was made.
            QueueNotFound: If a dead-letter queue neither exists nor is among them; nothing was made.
            QueueConflict: If a queue is of another kind, or may not have that dead-letter queue; nothing was made.
            PermissionMissing: If the credentials may not do it.
        """
        plans = await self._planned(specs)
        for spec in plans.values():
            await self._check(spec, plans)
        targets = {plan.spec.dead_letter_queue for plan in plans.values()}
        first = [plan for name, plan in plans.items() if name in targets]
        rest = [plan for name, plan in plans.items() if name not in targets]
        await _each(first, lambda plan: self._make(plan, plans, linked=plan.spec.dead_letter_queue is None))
        await _each(rest, lambda plan: self._make(plan, plans, linked=True))
        await _each(
            [plan for plan in first if plan.spec.dead_letter_queue is not None],
            lambda plan: self._make(plan, plans, linked=True),
        )

    async def verify(self, specs: Sequence[QueueSpec]) -> None:
        """Only read.

        Raises:
            DeclarationError: If anything differs or may not be read; it names all of it.
            BrokerUnavailable: If it cannot be asked.
        """
        wanted = self._with_anchors(specs)
        problems = [line for lines in await _each(wanted, self._problems) for line in lines]
        if problems:
            raise DeclarationError(
                f"the queues at {self._client.address}",
                "are not as declared:\n  " + "\n  ".join(problems) + "\n",
                "make them so, or let redrive do it: open once with declare=create in the address",
            )

    # Looking

    async def _planned(self, specs: Sequence[QueueSpec]) -> dict[str, _Plan]:
        wanted = self._with_anchors(specs)
        plans = await _each(wanted, self._plan)
        return {plan.spec.name: plan for plan in plans}

    def _with_anchors(self, specs: Sequence[QueueSpec]) -> list[QueueSpec]:
        for spec in specs:
            if error := self._queues.refused_name(spec.name, fifo=spec.fifo) or attributes.refused(spec):
                raise error
        anchors = [
            QueueSpec(
                name=self._queues.anchor_of(spec.name, fifo=spec.fifo),
                fifo=spec.fifo,
                dead_letter_queue=spec.name,
                max_receives=MOST_RECEIVES,
            )
            for spec in specs
            if PARKED in spec.name
        ]
        return [*specs, *anchors]

    async def _plan(self, spec: QueueSpec) -> _Plan:
        url = await self._queues.found(spec.name, fifo=spec.fifo)
        if url is None:
            if await self._queues.found(spec.name, fifo=not spec.fifo) is not None:
                raise _other_kind(spec)
            return _Plan(spec)
        return _Plan(spec, url, await self._attributes(spec.name, url))

    async def _attributes(self, name: str, url: str) -> dict[str, str]:
        answer = await self._client.read("GetQueueAttributes", name, QueueUrl=url, AttributeNames=["All"])
        found: dict[str, str] = answer.get("Attributes") or {}
        return found

    async def _check(self, plan: _Plan, plans: dict[str, _Plan]) -> None:
        """Whether its dead letters may go where it says."""
        spec = plan.spec
        if spec.dead_letter_queue is None:
            return
        target = plans.get(spec.dead_letter_queue)
        if target is not None:
            allowed = target.spec.allowed_sources
            fifo = target.spec.fifo
        else:
            located = await self._queues.located(spec.dead_letter_queue)
            found = await self._attributes(spec.dead_letter_queue, located.url)
            arns = attributes.sources_allowed(found)
            allowed = None if arns is None else tuple(self._queues.name_of_arn(arn) for arn in arns)
            fifo = located.fifo
        if fifo is not spec.fifo:
            problem = f"is not of the kind of {spec.name!r}"
            raise QueueConflict(spec.dead_letter_queue, problem, "use a FIFO queue for a FIFO queue")
        if allowed is not None and spec.name not in allowed:
            problem = f"does not take the dead letters of {spec.name!r}"
            raise QueueConflict(spec.dead_letter_queue, problem, "add it to its allowed_sources")

    # Making

    async def _make(self, plan: _Plan, plans: dict[str, _Plan], *, linked: bool) -> None:
        """Create it, or change what differs; `linked`: with its dead-letter queue, which exists by now."""
        should = attributes.wanted(plan.spec)
        if linked:
            should[REDRIVE] = await self._policy(plan, plans)
        if plan.url is None and await self._created(plan, should):
            await self._allow(plan)
            return
        changes = {one.attribute: one.wanted or "" for one in attributes.differences(plan.found or {}, should)}
        if changes:
            await self._set(plan, changes)
        await self._allow(plan)

    async def _policy(self, plan: _Plan, plans: dict[str, _Plan]) -> str:
        dead, receives = plan.spec.dead_letter_queue, plan.spec.max_receives
        if dead is None or receives is None:
            return ""
        target = plans.get(dead)
        if target is not None:
            return attributes.redrive_policy(target.arn, receives)
        located = await self._queues.located(dead)
        found = await self._attributes(dead, located.url)
        return attributes.redrive_policy(found["QueueArn"], receives)

    async def _created(self, plan: _Plan, should: dict[str, str]) -> bool:
        """Create it; False: somebody else was quicker, and it has other settings."""
        spec = plan.spec
        asked = {name: value for name, value in should.items() if value}
        if spec.fifo:
            asked["FifoQueue"] = "true"
        name = self._queues.sqs_name(spec.name, fifo=spec.fifo)
        try:
            answer = await _once_known(
                lambda: self._client.write("CreateQueue", spec.name, QueueName=name, Attributes=asked)
            )
        except Refused as error:
            if error.code not in _EXISTS:
                raise
            plan.url = await self._queues.found(spec.name, fifo=spec.fifo)
            if plan.url is None:
                raise
        else:
            plan.url = answer["QueueUrl"]
        self._queues.remember(spec.name, Located(plan.url, spec.fifo))
        url = plan.url
        plan.found = await _once_known(lambda: self._attributes(spec.name, url))
        return not attributes.differences(plan.found, should)

    async def _allow(self, plan: _Plan) -> None:
        """Whose dead letters it takes; set by itself, since its own ARN has to be known for it."""
        self._queues.remember(plan.spec.name, Located(plan.url or "", plan.spec.fifo))
        changes = attributes.differences(plan.found or {}, {ALLOW: self._allowed(plan.spec, plan.arn)})
        if changes:
            await self._set(plan, {ALLOW: changes[0].wanted or ""})

    def _allowed(self, spec: QueueSpec, arn: str) -> str:
        sources = spec.allowed_sources
        if sources is None:
            return attributes.allow_policy(None)
        names = [self._queues.sqs_name(name, fifo=spec.fifo) for name in sources]
        return attributes.allow_policy([attributes.neighbour(arn, name) for name in names])

    async def _set(self, plan: _Plan, changes: dict[str, str]) -> None:
        await _once_known(
            lambda: self._client.write("SetQueueAttributes", plan.spec.name, QueueUrl=plan.url, Attributes=changes)
        )
        plan.found = {**(plan.found or {}), **changes}

    # Verifying

    async def _problems(self, spec: QueueSpec) -> list[str]:
        """What is wrong with one queue, a line for each thing."""
        name = self._queues.sqs_name(spec.name, fifo=spec.fifo)
        try:
            plan = await self._plan(spec)
            if plan.url is None:
                return [f"{name}: does not exist"]
            self._queues.remember(spec.name, Located(plan.url, spec.fifo))
            return [f"{name}: {one}" for one in self._differing(spec, plan)]
        except QueueConflict as error:
            return [f"{name}: {error.problem}"]
        except PermissionMissing as error:
            return [f"{name}: the credentials may not call {error.action}"]

    def _differing(self, spec: QueueSpec, plan: _Plan) -> Iterable[Difference]:
        should = attributes.wanted(spec)
        should[REDRIVE] = ""
        if spec.dead_letter_queue is not None and spec.max_receives is not None:
            target = attributes.neighbour(plan.arn, self._queues.sqs_name(spec.dead_letter_queue, fifo=spec.fifo))
            should[REDRIVE] = attributes.redrive_policy(target, spec.max_receives)
        should[ALLOW] = self._allowed(spec, plan.arn)
        return attributes.differences(plan.found or {}, should)


def _other_kind(spec: QueueSpec) -> QueueConflict:
    kinds = ("a standard queue", "a FIFO queue") if spec.fifo else ("a FIFO queue", "a standard queue")
    return QueueConflict(spec.name, f"is {kinds[0]} and cannot become {kinds[1]}", "give the new one another name")


async def _once_known(call: Callable[[], Awaitable[R]]) -> R:
    """Do it; again for some seconds while SQS does not know everywhere a queue that was just made.

    Source: Amazon SQS, CreateQueue: "you must wait at least one second after the queue is created".
    """
    for pause in _PAUSES:
        try:
            return await call()
        except QueueNotFound:
            pass
        except Refused as error:
            if "does not exist" not in error.text:
                raise
        await asyncio.sleep(pause)
    return await call()


async def _each(items: Iterable[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Do it for all of them, some at once; the first error, when all have ended."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(item: T) -> R:
        async with room:
            return await work(item)

    results: list[Any] = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
