"""`redrive queue`: looking into queues, putting messages in, emptying, pausing and resuming."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redrive.cli.asking import confirm_typed
from redrive.cli.output import Column, Document, Output, Row, column, identity, number
from redrive.cli.printable import age, body_text, shortened
from redrive.cli.target import operator
from redrive.cli.values import body_given, length_of_time, pair
from redrive.errors import OperationRefused
from redrive.message import Message

if TYPE_CHECKING:
    from redrive.operations import Operations, ParkedView, QueueView, WorkerView

_SHOWN_OF_BODY = 60
_PAGE = 100
HOW = {
    "type": "checked against the type of its queue",
    "schema": "checked against the schema alone",
    "json": "checked as JSON alone: no application or schema is known",
}
"""How a body was checked, for people."""


@click.group("queue")
def group() -> None:
    """Queues: look into them, send, purge, pause and resume."""


@group.command("ls")
@operator
async def ls(operations: Operations, output: Output) -> None:
    """List the queues."""
    queues = (await operations.overview()).queues.values()
    rows = [_row(view) for view in queues]
    output.table(_COLUMNS, rows, nothing="no queues yet; they are made when an application is opened")


@group.command("show")
@click.argument("queue")
@operator
async def show(operations: Operations, output: Output, queue: str) -> None:
    """Show one queue: what it holds, what waits behind it, who works on it."""
    view = await operations.queue(queue)
    parked = [one for one in await operations.parked() if one.queue == queue]
    workers = [one for one in (await operations.overview()).workers if queue in one.queues]
    if output.as_json:
        output.json({**_document(view), "parked_for": _parked_for(parked), "workers": _workers(workers)})
        return
    output.facts((name.replace("_", " "), value) for name, value in _document(view).items() if name != "paused")
    output.facts([("paused", "yes")] if view.paused else [])
    output.facts((f"parked for {one.dependency}", _waiting(one, output.now_ms)) for one in parked)
    output.facts(("worker", f"{one.name}, process {one.pid}") for one in workers if one.alive)


@group.command("send")
@click.argument("queue")
@click.argument("body", required=False)
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Send what this file holds, as it is.")
@click.option("--attribute", "attributes", type=pair, multiple=True, metavar="NAME=VALUE", help="Beside the body.")
@click.option(
    "--delay",
    type=length_of_time,
    metavar="TIME",
    default="0s",
    show_default=True,
    help="Not to be handled before: 90, 5m, 1h.",
)
@click.option("--group", metavar="NAME", help="What it stays in order with, on a FIFO queue; a tenant elsewhere.")
@click.option("--deduplication-id", metavar="ID", help="On a FIFO queue: the same within five minutes is sent once.")
@click.option("--unchecked", is_flag=True, help="Send it even if it does not fit the queue, as strangers do.")
@click.option("--dry-run", is_flag=True, help="Check it and send nothing.")
@operator
async def send(
    operations: Operations,
    output: Output,
    *,
    queue: str,
    body: str | None,
    file: Path | None,
    attributes: tuple[tuple[str, str], ...],
    delay: float,
    group: str | None,
    deduplication_id: str | None,
    unchecked: bool,
    dry_run: bool,
) -> None:
    """Send one message: BODY, or standard input for -.

    The body is checked first: against the type of the queue, or the schema that a worker left.
    """
    content = body_given(body, file)
    if content is None:
        raise click.UsageError("give the body, - for standard input, or --file")
    await operations.queue(queue)
    checked = None if unchecked else await operations.check(queue, content)
    how = "unchecked" if checked is None else HOW[checked]
    facts: Document = {"queue": queue, "size": len(content), "checked": checked}
    if dry_run:
        output.done(f"would send {len(content)} bytes to {queue}, {how}", action="would send", id=None, **facts)
        return
    sent = await operations.send(
        queue,
        content,
        _named(attributes),
        delay=delay,
        group=group,
        deduplication_id=deduplication_id,
        unchecked=True,
    )
    output.done(f"sent {sent} to {queue}, {how}", action="sent", id=sent, **facts)


@group.command("peek")
@click.argument("queue")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="At most so many messages.")
@operator
async def peek(operations: Operations, output: Output, queue: str, limit: int) -> None:
    """Look at the messages of a queue without receiving them, what is ready first; of parked and dead queues too."""
    messages = [message async for message in _messages(operations, queue, limit)]
    rows: list[Row] = [(message_document(one), _message_cells(one, output.now_ms)) for one in messages]
    output.table(_MESSAGE_COLUMNS, rows, nothing=f"queue {queue} is empty")


@group.command("purge")
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say how many there are and delete nothing.")
@operator
async def purge(operations: Operations, output: Output, queue: str, *, yes: bool, dry_run: bool) -> None:
    """Delete everything in a queue, in flight too."""
    if queue.endswith("-dead"):
        raise OperationRefused(
            f"queue {queue!r}", "holds dead letters", f"use `redrive dead discard --all --queue {queue[:-5]}`"
        )
    view = await operations.queue(queue)
    count = view.ready + view.in_flight + view.delayed
    if dry_run:
        output.done(f"would delete {count} messages of {queue}", action="would purge", queue=queue, count=count)
        return
    confirm_typed(f"deleting {count} messages of {queue}", queue, yes=yes)
    deleted = await operations.purge(queue)
    output.done(f"deleted {deleted} messages of {queue}", action="purged", queue=queue, count=deleted)


@group.command("pause")
@click.argument("queue")
@operator
async def pause(operations: Operations, output: Output, queue: str) -> None:
    """Let consumers take nothing more from a queue; what they have in hand they finish."""
    await operations.pause(queue)
    output.done(f"paused {queue}", action="paused", queue=queue)


@group.command("resume")
@click.argument("queue")
@operator
async def resume(operations: Operations, output: Output, queue: str) -> None:
    """Let consumers take messages again."""
    await operations.resume(queue)
    output.done(f"resumed {queue}", action="resumed", queue=queue)


def message_document(message: Message) -> Document:
    """A message as JSON."""
    notes = message.notes
    return {
        "id": message.id,
        "sent_at_ms": message.sent_at_ms,
        "attributes": dict(message.attributes),
        "group": message.group,
        "attempts": notes.attempts,
        "bounces": notes.bounces,
        "crashes": notes.crashes,
        "reason": notes.failure.reason if notes.failure else None,
        "size": len(message.body),
        **body_document(message.body),
    }


def body_document(body: bytes) -> Document:
    """A body as JSON: as text, or as base64 where it is not UTF-8."""
    try:
        return {"body": body.decode(), "body_base64": None}
    except UnicodeDecodeError:
        from base64 import b64encode  # noqa: PLC0415 - rarely needed

        return {"body": None, "body_base64": b64encode(body).decode()}


_COLUMNS = (
    column("QUEUE"),
    *(number(title) for title in ("READY", "IN FLIGHT", "DELAYED", "PARKED", "DEAD")),
    column("STATE", {"paused": "yellow"}),
)
_MESSAGE_COLUMNS: tuple[Column, ...] = (
    identity("ID"), column("SENT"), number("ATTEMPTS"), number("BYTES"), column("BODY")
)  # fmt: skip


def _row(view: QueueView) -> Row:
    counts = (view.ready, view.in_flight, view.delayed, view.parked, view.dead)
    return _document(view), (view.name, *counts, "paused" if view.paused else "")


def _document(view: QueueView) -> Document:
    return {
        "queue": view.name,
        "ready": view.ready,
        "in_flight": view.in_flight,
        "delayed": view.delayed,
        "parked": view.parked,
        "dead": view.dead,
        "paused": view.paused,
    }


def _message_cells(message: Message, now_ms: int) -> tuple[object, ...]:
    beginning = shortened(body_text(message.body[: _SHOWN_OF_BODY * 4]), _SHOWN_OF_BODY)
    return message.id, f"{age(message.sent_at_ms, now_ms)} ago", message.notes.attempts, len(message.body), beginning


def _waiting(view: ParkedView, now_ms: int) -> str:
    oldest = "" if view.oldest_sent_at_ms is None else f", the oldest sent {age(view.oldest_sent_at_ms, now_ms)} ago"
    return f"{view.count}{oldest}"


def _parked_for(views: list[ParkedView]) -> list[Document]:
    return [
        {"dependency": one.dependency, "count": one.count, "oldest_sent_at_ms": one.oldest_sent_at_ms} for one in views
    ]


def _workers(views: list[WorkerView]) -> list[Document]:
    return [{"worker": one.name, "alive": one.alive, "pid": one.pid, "at_ms": one.at_ms} for one in views]


async def _messages(operations: Operations, queue: str, limit: int) -> AsyncIterator[Message]:
    cursor = None
    while limit > 0:
        page = await operations.peek(queue, limit=min(limit, _PAGE), cursor=cursor)
        for message in page.messages:
            yield message
        limit -= len(page.messages)
        if (cursor := page.cursor) is None:
            return


def _named(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise click.UsageError(f"attribute {twice[0]!r} is given twice")
    return dict(pairs)
