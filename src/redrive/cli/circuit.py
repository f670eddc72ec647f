"""`redrive circuit`: the circuits of dependencies, and the hand that holds one open or closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from redrive.cli.output import Column, Document, Output, Row, column, number
from redrive.cli.printable import age, duration, instant
from redrive.cli.target import operator
from redrive.cli.values import over_zero

if TYPE_CHECKING:
    from redrive.operations import DependencyView, Operations

_STYLES = {
    "closed": "green",
    "open": "red",
    "half-open": "yellow",
    "forced-open": "bold red",
    "forced-closed": "bold yellow",
}
_COLUMNS: tuple[Column, ...] = (
    column("DEPENDENCY"),
    column("STATE", _STYLES),
    column("SINCE"),
    column("NEXT CANARY"),
    number("CALLS"),
    number("FAILURES"),
    column("REASON"),
)
_reason = click.option("--reason", default="by hand", show_default=True, help="Why, for whoever looks later.")
_minutes = click.option(
    "--minutes", type=over_zero, metavar="NUMBER", help="For so long; unless given, until `circuit auto`."
)


@click.group("circuit")
def group() -> None:
    """Circuits of dependencies: look, hold open or closed, give back."""


@group.command("ls")
@operator
async def ls(operations: Operations, output: Output) -> None:
    """List the dependencies and their circuits."""
    views = (await operations.overview()).dependencies.values()
    output.table(_COLUMNS, [_row(view, output.now_ms) for view in views], nothing="no dependencies yet")


@group.command("show")
@click.argument("dependency")
@operator
async def show(operations: Operations, output: Output, dependency: str) -> None:
    """Show the circuit of one dependency."""
    _print(output, await operations.circuit(dependency))


@group.command("open")
@click.argument("dependency")
@_reason
@_minutes
@operator
async def open_(operations: Operations, output: Output, dependency: str, reason: str, minutes: float | None) -> None:
    """Hold a circuit open: the dependency is not called, its messages are parked."""
    await _force(operations, output, dependency, "open", reason=reason, minutes=minutes)


@group.command("close")
@click.argument("dependency")
@_reason
@_minutes
@operator
async def close(operations: Operations, output: Output, dependency: str, reason: str, minutes: float | None) -> None:
    """Hold a circuit closed: the dependency is called whatever happens."""
    await _force(operations, output, dependency, "closed", reason=reason, minutes=minutes)


@group.command("auto")
@click.argument("dependency")
@operator
async def auto(operations: Operations, output: Output, dependency: str) -> None:
    """Give a circuit back to its rules: what was held open is probed, what was held closed stays closed."""
    view = await operations.automatic(dependency)
    output.done(f"circuit of {dependency} is automatic again: {view.state}", **_document(view))


async def _force(
    operations: Operations,
    output: Output,
    dependency: str,
    state: Literal["open", "closed"],
    *,
    reason: str,
    minutes: float | None,
) -> None:
    view = await operations.force(dependency, state, reason=reason, minutes=minutes)
    until = "`redrive circuit auto`" if minutes is None else f"{duration(minutes * 60)} have passed"
    output.done(f"circuit of {dependency} is held {state} until {until}", **_document(view))


def _print(output: Output, view: DependencyView) -> None:
    if output.as_json:
        output.json(_document(view))
        return
    output.facts(
        [
            ("dependency", view.name),
            ("state", view.state),
            ("since", instant(view.changed_at_ms) if view.changed_at_ms else None),
            ("until", None if view.until_ms is None else instant(view.until_ms)),
            ("reason", view.reason),
            ("by", view.owner),
            ("next canary", _next(view)),
            ("failed probes", view.failed_probes),
            ("calls", f"{view.calls}, {view.failures} failed"),
            ("generation", view.generation),
        ]
    )


def _row(view: DependencyView, now_ms: int) -> Row:
    since = age(view.changed_at_ms, now_ms)
    return _document(view), (view.name, view.state, since, _next(view), view.calls, view.failures, view.reason)


def _next(view: DependencyView) -> str:
    return "" if view.next_canary_in is None else f"in {duration(view.next_canary_in)}"


def _document(view: DependencyView) -> Document:
    return {
        "dependency": view.name,
        "state": view.state,
        "generation": view.generation,
        "reason": view.reason,
        "owner": view.owner,
        "changed_at_ms": view.changed_at_ms,
        "until_ms": view.until_ms,
        "next_canary_in_ms": None if view.next_canary_in is None else round(view.next_canary_in * 1000),
        "failed_probes": view.failed_probes,
        "calls": view.calls,
        "failures": view.failures,
    }
