"""Sagas by plan: a list of items that one function carries out, with a ledger of all that happened."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from redrive import App, Backoff, Context, Reject, RetryLater, Saga, StepFailed, StepRejected, step
from redrive.sagas.definition import SagaConsumer
from redrive.sagas.journal import Journal, State
from tests.sagas.cutting import Cut, Fate

ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Act:
    """One step: how it goes, and how its undo goes."""

    failures: int = 0
    """Attempts that raise before one succeeds; `ATTEMPTS` or more: never."""
    effect_before_failure: bool = False
    """Whether an attempt that raises has taken effect."""
    rejected: bool = False
    """After its failures."""
    later: int = 0
    """How often it asks to come back later, first."""
    undo_failures: int = 0
    caught: bool = False
    """Whether the function catches its end."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """What is not a step."""

    kind: Literal["sleep", "wait", "fact", "return"]
    seconds: float = 5.0


Item = tuple[Act, ...] | Other
"""Several acts: beside one another."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One saga."""

    items: tuple[Item, ...]
    deadline: float | None = None
    signals: tuple[float, ...] = ()
    """When one is sent, in seconds from the start."""
    cancelled_at: float | None = None

    @property
    def acts(self) -> list[Act]:
        """All acts, in order of call."""
        return [one for item in self.items if not isinstance(item, Other) for one in item]

    def may_undo(self) -> bool:
        return self.deadline is not None or self.cancelled_at is not None


@dataclass(kw_only=True)
class Ledger:
    """What happened, in order: `begin`, `effect`, `undo`, `undone`, each with the number of the act, from 1."""

    fate: Fate
    events: list[tuple[str, int]] = field(default_factory=list)

    def numbers(self, what: str) -> list[int]:
        """Of one kind of event."""
        return [number for kind, number in self.events if kind == what]

    def note(self, what: str, number: int) -> None:
        """Unless the process is dead."""
        self.fate.check()
        self.events.append((what, number))

    def uncount(self, number: int) -> None:
        """The last beginning of this act was no attempt: it asked to come back later."""
        self.fate.check()
        place = max(place for place, one in enumerate(self.events) if one == ("begin", number))
        self.events[place] = ("later", number)


class Carried:
    """An application that carries a plan out."""

    def __init__(self, plan: Plan, fate: Fate) -> None:
        self.plan, self.ledger, self.fate = plan, Ledger(fate=fate), fate
        self.app: App[None] = App("plans")
        self.queue = self.app.queue("plans", str)
        self._tries: dict[str, int] = {}
        carrier = self

        async def undo(_ctx: Context[None], _result: int | None, number: int) -> None:
            await carrier._undo(number)

        @step(
            undo=undo,
            attempts=ATTEMPTS,
            backoff=Backoff(first=1.0, maximum=4.0),
            undo_backoff=Backoff(first=1.0, maximum=8.0),
        )
        async def act(_ctx: Context[None], number: int) -> int:
            return await carrier._act(number)

        async def carry_out(saga: Saga[None], _payload: str) -> int:
            number = 0
            for item in carrier.plan.items:
                if isinstance(item, Other):
                    await carrier._other(saga, item)
                    continue
                calls = [act(number + 1 + place) for place in range(len(item))]
                number += len(item)
                try:
                    await saga.gather(*calls)
                except (StepFailed, StepRejected):
                    if not all(one.caught for one in item):
                        raise
            return number

        self.saga: SagaConsumer[str] = self.queue.saga(id=lambda payload: payload, deadline=plan.deadline, steps=[act])(
            carry_out
        )

    async def _other(self, saga: Saga[None], item: Other) -> None:
        match item.kind:
            case "sleep":
                await saga.sleep(item.seconds)
            case "wait":
                try:
                    await saga.wait_for("go", timeout=item.seconds)
                except TimeoutError:
                    saga.random()
            case "fact":
                saga.now(), saga.uuid()
            case "return":
                saga.point_of_no_return()

    async def _act(self, number: int) -> int:
        act, cut = self.plan.acts[number - 1], self.fate.body_begins()
        self.ledger.note("begin", number)
        if cut is Cut.BEFORE:
            self.fate.die()
            self.fate.check()
        tries = self._tries[f"{number}"] = self._tries.get(f"{number}", 0) + 1
        await asyncio.sleep(0)
        if tries <= act.later:
            self.ledger.uncount(number)
            raise RetryLater(after=2)
        if tries - act.later <= act.failures:
            if act.effect_before_failure:
                self.ledger.note("effect", number)
            raise OSError("it was to fail")
        if act.rejected:
            raise Reject("no")
        self.ledger.note("effect", number)
        if cut is not None:
            self.fate.die()
            self.fate.check()
        return number

    async def _undo(self, number: int) -> None:
        act, cut = self.plan.acts[number - 1], self.fate.body_begins()
        self.ledger.note("undo", number)
        if cut is Cut.BEFORE:
            self.fate.die()
            self.fate.check()
        tries = self._tries[f"undo {number}"] = self._tries.get(f"undo {number}", 0) + 1
        await asyncio.sleep(0)
        if tries <= act.undo_failures:
            raise OSError("it was to fail")
        self.ledger.note("undone", number)
        if cut is not None:
            self.fate.die()
            self.fate.check()


def faults_of(carried: Carried, journal: Journal | None) -> list[str]:
    """What is wrong with how a plan ended; empty: nothing."""
    plan, ledger, fate = carried.plan, carried.ledger, carried.fate
    if journal is None:
        return ["it never began"]
    found = []
    disturbed = fate.deaths + fate.troubles
    passed_return = any(isinstance(one, Other) and one.kind == "return" for one in plan.items)
    if journal.state not in {State.COMPLETED, State.UNDONE} and not (journal.state is State.STUCK and passed_return):
        found.append(f"it ended {journal.state} because of {journal.stuck}")
    tries = ledger.numbers("begin")
    found += [f"act {number} was tried too often" for number in set(tries) if tries.count(number) > ATTEMPTS]
    undos = list(dict.fromkeys(ledger.numbers("undo")))
    began = list(dict.fromkeys(number for kind, number in ledger.events if kind in {"begin", "later"}))
    if [one for one in undos if one in began] != [one for one in reversed(began) if one in undos]:
        found.append(f"begun {began}, undone {undos}")
    if not disturbed and (never := set(undos) - set(began)):
        found.append(f"undone and never begun: {never}")
    undone = ledger.numbers("undone")
    found += [f"act {number} was undone twice" for number in undos if undone.count(number) > 1 + disturbed]
    return found + _effects(carried, journal)


def _effects(carried: Carried, journal: Journal) -> list[str]:
    ledger, plan, found = carried.ledger, carried.plan, []
    for number, act in enumerate(plan.acts, 1):
        effects = [place for place, one in enumerate(ledger.events) if one == ("effect", number)]
        undone = [place for place, one in enumerate(ledger.events) if one == ("undone", number)]
        if journal.state is State.COMPLETED:
            if not effects and not act.caught:
                found.append(f"completed without the effect of act {number}")
            if undone:
                found.append(f"completed, and act {number} is undone")
        if journal.state is State.UNDONE and effects and not act.rejected and (not undone or undone[-1] < effects[-1]):
            found.append(f"undone, and the effect of act {number} stands")
    return found
