"""One instance of a saga, as `redrive saga show` prints it: facts, then what happened, in order, then who did what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from redrive.cli.output import Column, Document, Output, Row, brief, column, identity, number
from redrive.cli.printable import age, duration, instant, shortened

if TYPE_CHECKING:
    from redrive.operations import InstanceView
    from redrive.operations.saga_views import FactView, ProblemView, StepView, UndoView

STYLES = {
    "completed": "green",
    "done": "green",
    "undone": "yellow",
    "rejected": "yellow",
    "undoing": "yellow",
    "skipped": "dim",
    "stuck": "bold red",
    "failed": "bold red",
    "unknown": "red",
    "waiting": "cyan",
    "started": "cyan",
    "running": "cyan",
}
_COLUMNS: tuple[Column, ...] = (
    number("AFTER"),
    identity("WHAT"),
    column("STATE", STYLES),
    number("TRIES"),
    number("TOOK"),
    identity("WHEN"),
    brief("SAID"),
)
_DEEDS: tuple[Column, ...] = (column("AT"), column("WHO"), column("WHAT"), column("NOTE"))
_WIDE = 16
_SHOWN = 400


def document(view: InstanceView) -> Document:
    """Everything of an instance, as JSON."""
    found = asdict(view)
    return {**found.pop("summary"), **found}


def print_instance(output: Output, view: InstanceView) -> None:
    """Everything of an instance, for people."""
    output.facts(_facts(view, output.now_ms))
    output.heading("what happened")
    output.table(_COLUMNS, list(_rows(view, output.now_ms)), nothing="nothing yet")
    if errors := [one for one in _errors(view) if one[1]]:
        output.heading("last errors")
        output.facts(errors)
    if view.deeds:
        output.heading("what operators did")
        rows: list[Row] = [(asdict(one), (instant(one.at_ms), one.by, one.what, one.note)) for one in view.deeds]
        output.table(_DEEDS, rows, nothing="nothing")


def _facts(view: InstanceView, now_ms: int) -> Iterator[tuple[str, object]]:
    summary = view.summary
    yield "saga", summary.id
    yield "queue", summary.queue
    yield "version", summary.version
    yield "state", summary.state
    yield "now", None if view.stuck else summary.doing
    if view.stuck is not None:
        yield "stuck", view.stuck.reason
        yield "goes on", f"{view.stuck_while}, with `redrive saga retry`"
    if view.cause is not None:
        yield "undone because", view.cause.reason
    if view.cancelled is not None:
        yield "cancelled", f"by {view.cancelled.by}, {instant(view.cancelled.at_ms)}"
    yield "began", f"{instant(summary.began_at_ms)}, {age(summary.began_at_ms, now_ms)} ago"
    yield "changed", f"{instant(summary.changed_at_ms)}, {age(summary.changed_at_ms, now_ms)} ago"
    yield "deadline", None if summary.deadline_ms is None else instant(summary.deadline_ms)
    yield "point of no return", "passed" if view.beyond_return else None
    yield "parked for", summary.parked_for
    if view.owner is not None:
        yield "in hand of", f"{view.owner.worker}, until {instant(view.owner.until_ms)} at most"
    yield "next wake-up", None if view.due_at_ms is None else f"{instant(view.due_at_ms)}, unless one comes before"
    yield "signals kept", ", ".join(view.signals)
    yield "input", _json(view.input)
    yield "result", None if view.result is None else _json(view.result)


def _rows(view: InstanceView, now_ms: int) -> Iterator[Row]:
    """Steps with what the function asked for in its place, then the undos, the last step's first."""
    scale = _Scale(view, now_ms)
    for place in range(len(view.steps) + 1):
        for fact in view.facts:
            if min(fact.after, len(view.steps)) == place:
                yield asdict(fact), _of_fact(fact, scale)
        if place < len(view.steps):
            yield asdict(view.steps[place]), _of_step(view.steps[place], scale)
    undone = [(step, step.undo) for step in reversed(view.steps) if step.undo is not None]
    for step, undo in undone:
        yield asdict(undo), _of_undo(step, undo, scale)


def _errors(view: InstanceView) -> Iterator[tuple[str, object]]:
    """In full: a table shows what fits."""
    for step in view.steps:
        yield f"{step.name}/{step.call}", _error(step.error)
    for step in reversed(view.steps):
        if step.undo is not None:
            yield f"undo {step.name}/{step.call}", _error(step.undo.error)


class _Scale:
    """Bars on one line of time, from the beginning of an instance to its end, where it stuck, or to now."""

    def __init__(self, view: InstanceView, now_ms: int) -> None:
        summary = view.summary
        ended = summary.state in {"completed", "undone", "stuck"}
        self._begin = summary.began_at_ms
        self.end = summary.changed_at_ms if ended else max(now_ms, summary.changed_at_ms)

    def after(self, at_ms: int | None) -> str:
        """How long after the beginning an instant was; `-` for never."""
        return "-" if at_ms is None else duration((at_ms - self._begin) / 1000)

    def bar(self, start: int | None, end: int | None) -> str:
        """`·····████····`; empty for what never began."""
        if start is None:
            return ""
        length = max(1, self.end - self._begin)
        first = min(_WIDE - 1, max(0, (start - self._begin) * _WIDE // length))
        last = min(_WIDE - 1, max(first, ((self.end if end is None else end) - self._begin) * _WIDE // length))
        return "·" * first + "█" * (last - first + 1) + "·" * (_WIDE - 1 - last)


def _of_step(step: StepView, scale: _Scale) -> tuple[object, ...]:
    said = _error(step.error) if step.error else _json(step.result) if step.state == "done" else ""
    return _line(f"{step.name}/{step.call}", step, step.state, scale, said)


def _of_undo(step: StepView, undo: UndoView, scale: _Scale) -> tuple[object, ...]:
    said = "; ".join(filter(None, (undo.note, _error(undo.error))))
    return _line(f"undo {step.name}/{step.call}", undo, undo.state, scale, said)


def _line(what: str, one: StepView | UndoView, state: str, scale: _Scale, said: str) -> tuple[object, ...]:
    ended = None if state == "started" else one.ended_at_ms
    if one.due_at_ms is not None and state == "started":
        said = f"again at {instant(one.due_at_ms)}: {said}" if said else f"again at {instant(one.due_at_ms)}"
    took = "" if one.began_at_ms is None or ended is None else duration((ended - one.began_at_ms) / 1000)
    return scale.after(one.began_at_ms), what, state, one.attempts, took, scale.bar(one.began_at_ms, ended), said


def _of_fact(fact: FactView, scale: _Scale) -> tuple[object, ...]:
    waits = fact.kind in {"wait", "sleep"}
    state = "timed out" if fact.timed_out else "done" if fact.over else "waiting"
    said = "" if fact.value is None else _json(fact.value)
    if not fact.over and fact.due_at_ms is not None:
        said = f"until {instant(fact.due_at_ms)}"
    began = fact.at_ms or None
    took = duration((fact.over_at_ms - fact.at_ms) / 1000) if waits and fact.over_at_ms is not None else ""
    bar = scale.bar(began, fact.over_at_ms if fact.over else None) if waits else ""
    return scale.after(began), f"{fact.kind} {fact.name}".strip(), state if waits else "", "", took, bar, said


def _error(error: ProblemView | None) -> str:
    if error is None:
        return ""
    return f"{error.type.rpartition('.')[2]}: {error.text}" if error.type else error.text


def _json(value: Any) -> str:  # noqa: ANN401 - JSON
    return shortened(json.dumps(value, ensure_ascii=False), _SHOWN)
