"""`redrive parked`: messages that wait for a dependency. They come back by themselves; this is for the impatient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from redrive.cli.output import Column, Document, Output, Row, column, number
from redrive.cli.printable import age
from redrive.cli.target import operator
from redrive.cli.values import over_zero
from redrive.errors import NotFound

if TYPE_CHECKING:
    from redrive.operations import Operations, ParkedView

_COLUMNS: tuple[Column, ...] = (column("QUEUE"), column("DEPENDENCY"), number("PARKED"), column("OLDEST SENT"))


@click.group("parked")
def group() -> None:
    """Messages that wait for a dependency."""


@group.command("ls")
@click.argument("dependency", required=False)
@operator
async def ls(operations: Operations, output: Output, dependency: str | None) -> None:
    """List the parked queues, of one DEPENDENCY or of all."""
    if dependency is not None:
        await operations.circuit(dependency)
    rows = [_row(view, output.now_ms) for view in await operations.parked(dependency)]
    output.table(_COLUMNS, rows, nothing="no consumer needs a dependency")
    if not operations.browses:
        output.note("this broker shows no message that is not received: how many are parked is known, not since when")


@group.command("redrive")
@click.argument("dependency")
@click.option("--queue", help="Only what came from this queue.")
@click.option("--limit", type=click.IntRange(1), help="At most so many messages.")
@click.option(
    "--rate", type=over_zero, metavar="NUMBER", help="Messages a second; unless given, as fast as the broker goes."
)
@click.option("--dry-run", is_flag=True, help="Say how many there are and move nothing.")
@operator
async def redrive(
    operations: Operations,
    output: Output,
    *,
    dependency: str,
    queue: str | None,
    limit: int | None,
    rate: float | None,
    dry_run: bool,
) -> None:
    """Move what waits for DEPENDENCY back to its queues now, whatever its circuit says."""
    await operations.circuit(dependency)
    views = [one for one in await operations.parked(dependency) if queue in {None, one.queue}]
    if queue is not None and not views:
        raise NotFound(f"a parked queue of {queue!r} for {dependency!r}", "see `redrive parked ls`")
    facts: Document = {"dependency": dependency, "queue": queue}
    if dry_run:
        waiting = sum(one.count for one in views)
        count = waiting if limit is None else min(waiting, limit)
        output.done(f"would redrive {count} messages", action="would redrive", count=count, **facts)
        return
    moved = await operations.redrive_parked(dependency, queue, limit=limit, rate=rate)
    output.done(f"redriven {moved} messages", action="redriven", count=moved, **facts)


def _row(view: ParkedView, now_ms: int) -> Row:
    document = {
        "queue": view.queue,
        "dependency": view.dependency,
        "parked_queue": view.parked_queue,
        "count": view.count,
        "oldest_sent_at_ms": view.oldest_sent_at_ms,
    }
    oldest = "-" if view.oldest_sent_at_ms is None else f"{age(view.oldest_sent_at_ms, now_ms)} ago"
    return document, (view.queue, view.dependency, view.count, oldest)
