"""A saga as a graph, in the text of Mermaid or Graphviz: as the code knows it, or one instance as its journal has it.

Pure: values in, text out. What names and arguments hold is made printable, and cannot end a label.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal

from redrive.cli.printable import printable

if TYPE_CHECKING:
    from redrive.operations import InstanceView
    from redrive.operations.saga_views import FactView, StepView
    from redrive.sagas.definition import SagaConsumer
    from redrive.sagas.steps import Step

Form = Literal["mermaid", "dot"]
_COLOURS = {
    "done": "#c8e6c9",
    "completed": "#c8e6c9",
    "rejected": "#ffe0b2",
    "undone": "#ffe0b2",
    "unknown": "#ffcdd2",
    "failed": "#ffcdd2",
    "stuck": "#ffcdd2",
    "started": "#bbdefb",
    "waiting": "#e1bee7",
    "skipped": "#eeeeee",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    label: tuple[str, ...]
    """Its lines."""
    state: str = ""
    is_undo: bool = False


@dataclass(slots=True)
class _Graph:
    title: str
    nodes: list[_Node] = field(default_factory=list)
    edges: list[tuple[int, int, str]] = field(default_factory=list)
    """From, to, and what stands at it; `undo` is drawn dashed."""

    def add(self, node: _Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def chain(self, numbers: Iterable[int]) -> None:
        before: int | None = None
        for one in numbers:
            if before is not None:
                self.edges.append((before, one, ""))
            before = one


def of_code(consumer: SagaConsumer[Any], form: Form) -> str:
    """The steps that the newest version of a saga can name.

    They are linked in the order in which the function names them: which of them run, how often and beside one another
    is not known before they do. What it does not name itself (a function that it calls may) stands beside.
    """
    graph = _Graph(f"{consumer.queue}, version {consumer.newest.number}")
    named = _named(consumer)
    numbers = {step.name: graph.add(_Node(label=_of_step(step))) for step in (*named, *_others(consumer, named))}
    graph.chain(numbers[step.name] for step in named)
    for name, number in numbers.items():
        undo = consumer.steps[name].undo
        if undo is not None:
            label = (f"undo: {getattr(undo, '__name__', 'undo')}", f"for {consumer.steps[name].settings.undo_for:g} s")
            graph.edges.append((number, graph.add(_Node(label=label, is_undo=True)), "undo"))
    return _text(graph, form)


def of_instance(view: InstanceView, form: Form) -> str:
    """The steps, waits and undos of one instance, in the order in which they began."""
    summary = view.summary
    graph = _Graph(f"{summary.queue} {summary.id}: {summary.state}")
    forward, steps = [], dict[str, int]()
    for kind, place in _in_place(view):
        number = graph.add(_of_begun(view.steps[place]) if kind == "step" else _of_fact(view.facts[place]))
        forward.append(number)
        if kind == "step":
            steps[view.steps[place].key] = number
    backward = []
    for step in reversed(view.steps):
        if step.undo is not None:
            label = (f"undo {step.name}/{step.call}", _tries(step.undo.state, step.undo.attempts))
            backward.append(graph.add(_Node(label=label, state=step.undo.state, is_undo=True)))
            graph.edges.append((steps[step.key], backward[-1], "undo"))
    end = [graph.add(_Node(label=(summary.state,), state=summary.state))]
    graph.chain([*forward, *(end if not backward else [])])
    graph.chain([*backward, *(end if backward else [])])
    return _text(graph, form)


def _in_place(view: InstanceView) -> Iterator[tuple[Literal["step", "fact"], int]]:
    """Steps and what the function waited for, each in its place."""
    facts = [number for number, one in enumerate(view.facts) if one.kind in {"wait", "sleep"}]
    for place in range(len(view.steps) + 1):
        yield from (("fact", one) for one in facts if min(view.facts[one].after, len(view.steps)) == place)
        if place < len(view.steps):
            yield "step", place


def _named(consumer: SagaConsumer[Any]) -> list[Step[Any, Any, Any]]:
    """The steps whose names stand in the function, in the order of the first time."""
    function = inspect.unwrap(consumer.newest.function)
    known = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    found = [known.get(name) for name in _names(function.__code__)]
    steps = list(consumer.steps.values())
    return [steps[steps.index(one)] for one in dict.fromkeys(found) if one in steps]


def _others(consumer: SagaConsumer[Any], named: list[Step[Any, Any, Any]]) -> list[Step[Any, Any, Any]]:
    return [one for one in consumer.steps.values() if one not in named]


def _names(code: CodeType) -> Iterator[str]:
    import dis  # noqa: PLC0415 - `--help` does not need it

    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME", "LOAD_CLOSURE"}:
            yield str(instruction.argval)
        elif isinstance(instruction.argval, CodeType):
            yield from _names(instruction.argval)


def _of_begun(step: StepView) -> _Node:
    return _Node(label=(f"{step.name}/{step.call}", _tries(step.state, step.attempts)), state=step.state)


def _of_fact(fact: FactView) -> _Node:
    how = "timed out" if fact.timed_out else "over" if fact.over else "waits"
    return _Node(label=(f"{fact.kind} {fact.name}".strip(), how), state="done" if fact.over else "waiting")


def _of_step(step: Step[Any, Any, Any]) -> tuple[str, ...]:
    needs = (f"needs {', '.join(sorted(step.needs))}",) if step.needs else ()
    return (step.name, f"{step.settings.attempts} attempts of {step.settings.timeout:g} s", *needs)


def _tries(state: str, attempts: int) -> str:
    return f"{state}, {attempts} attempts" if attempts > 1 else state


def _text(graph: _Graph, form: Form) -> str:
    return "\n".join(_mermaid(graph) if form == "mermaid" else _dot(graph))


def _mermaid(graph: _Graph) -> Iterator[str]:
    yield "flowchart TD"
    yield f"    %% {printable(graph.title)}"
    for number, node in enumerate(graph.nodes):
        label = "<br/>".join(_in_mermaid(line) for line in node.label)
        opening, closing = ("([", "])") if node.is_undo else ("[", "]")
        yield f'    n{number}{opening}"{label}"{closing}'
    for start, end, label in graph.edges:
        yield f"    n{start} -. {label} .-> n{end}" if label else f"    n{start} --> n{end}"
    for number, node in enumerate(graph.nodes):
        if node.state in _COLOURS:
            yield f"    style n{number} fill:{_COLOURS[node.state]}"


def _dot(graph: _Graph) -> Iterator[str]:
    yield f'digraph "{_in_dot(graph.title)}" {{'
    yield "    node [shape=box];"
    for number, node in enumerate(graph.nodes):
        label = "\\n".join(_in_dot(line) for line in node.label)
        shape = ", style=rounded" if node.is_undo else ""
        colour = _COLOURS.get(node.state)
        style = f', style="filled{",rounded" if node.is_undo else ""}", fillcolor="{colour}"' if colour else shape
        yield f'    n{number} [label="{label}"{style}];'
    for start, end, label in graph.edges:
        yield f'    n{start} -> n{end} [label="{label}", style=dashed];' if label else f"    n{start} -> n{end};"
    yield "}"


def _in_mermaid(text: str) -> str:
    escaped = printable(text).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("#", "#35;")


def _in_dot(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
