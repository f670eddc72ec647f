"""`redrive saga`: instances of sagas, and what to do about those that need a person."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redrive.cli import saga_code
from redrive.cli.asking import confirm_typed
from redrive.cli.edit import difference, with_members
from redrive.cli.exits import complain
from redrive.cli.output import Column, Output, Row, brief, column, identity, number
from redrive.cli.printable import age
from redrive.cli.queue import HOW
from redrive.cli.target import operator
from redrive.cli.timeline import STYLES, document, print_instance
from redrive.cli.values import body_given, pair
from redrive.errors import OperationRefused

if TYPE_CHECKING:
    from redrive.operations import Operations, SagaDone, SagaView

_LISTED = 100
_NAMES = ("running", "waiting", "undoing", "completed", "undone", "stuck", "parked")
_STATES = click.Choice(_NAMES)
_COLUMNS: tuple[Column, ...] = (
    identity("ID"),
    column("QUEUE"),
    column("STATE", STYLES),
    number("STEPS"),
    column("CHANGED"),
    brief("NOW"),
)
_COUNTS: tuple[Column, ...] = (column("QUEUE"), *(number(one.upper()) for one in _NAMES))
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}

_queue = click.option("--queue", help="Only sagas of this queue.")
_reason = click.option("--reason", default="", help="Why, for whoever looks later.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_identity = click.argument("saga", metavar="ID")


@click.group("saga")
def group() -> None:
    """Sagas: look, retry, skip an undo, cancel, and see what a deploy would strand.

    An id may be given by its beginning.
    """


group.add_command(saga_code.check)
group.add_command(saga_code.graph)


@group.command("ls")
@_queue
@click.option("--state", type=_STATES, help="Only those in this state; `parked` is one beside the others.")
@click.option("--text", help="Only those whose journal has this somewhere: id, input, results, errors.")
@click.option("--limit", type=click.IntRange(1), help=f"At most so many; unless given {_LISTED}, and all with --json.")
@click.option("--counts", is_flag=True, help="How many are in which state, instead.")
@operator
async def ls(
    operations: Operations,
    output: Output,
    *,
    queue: str | None,
    state: str | None,
    text: str | None,
    limit: int | None,
    counts: bool,
) -> None:
    """List sagas, by queue and id. What has ended is kept for 14 days."""
    if queue is not None:
        await operations.queue(queue)
    if counts:
        found = await operations.sagas.counts(queue)
        rows: list[Row] = [
            ({"queue": name, **{one: of.get(one, 0) for one in _NAMES}}, (name, *(of.get(one, 0) for one in _NAMES)))
            for name, of in found.items()
        ]
        output.table(_COUNTS, rows, nothing="no sagas")
        return
    most = limit if limit is not None or output.as_json else _LISTED
    views: list[SagaView] = []
    async for view in operations.sagas.instances(queue, state=state, text=text):
        if most is not None and len(views) == most:
            output.note(f"there are more than {most}; --limit shows more")
            break
        views.append(view)
    output.table(_COLUMNS, (_row(one, output.now_ms) for one in views), nothing="no sagas")


@group.command("show")
@_identity
@_queue
@operator
async def show(operations: Operations, output: Output, saga: str, queue: str | None) -> None:
    """Show one saga: why it is where it is, every step and undo on a line of time, and what operators did."""
    found = await operations.sagas.named(saga, queue)
    view = await operations.sagas.instance(found.queue, found.id)
    if output.as_json:
        output.json(document(view))
    else:
        print_instance(output, view)


@group.command("retry")
@click.argument("sagas", nargs=-1, metavar="[ID]...")
@_queue
@click.option("--all", "everything", is_flag=True, help="All that are stuck, or with --queue all of that queue.")
@_reason
@_dry_run
@operator
async def retry(
    operations: Operations,
    output: Output,
    *,
    sagas: tuple[str, ...],
    queue: str | None,
    everything: bool,
    reason: str,
    dry_run: bool,
) -> None:
    """Let stuck sagas go on where they were left, with their tries anew. Their dead letters are discarded.

    One whose worker was lost is woken.
    """
    if bool(sagas) == everything:
        raise click.UsageError("give ids or --all, one of the two")
    if everything:
        chosen = [one async for one in operations.sagas.instances(queue, state="stuck")]
    else:
        chosen = [await operations.sagas.named(one, queue) for one in sagas]
    if not chosen:
        output.note("no sagas are stuck")

    async def act(view: SagaView) -> None:
        done = await operations.sagas.retry(view.queue, view.id, reason=reason, dry_run=dry_run)
        _say(output, done, "retried", "goes on where it was left", dry_run=dry_run)

    await _each(chosen, act)


@group.command("skip")
@_identity
@click.argument("step")
@_queue
@click.option("--reason", required=True, help="Why its effect may stay, for whoever looks later.")
@_dry_run
@operator
async def skip(
    operations: Operations, output: Output, *, saga: str, step: str, queue: str | None, reason: str, dry_run: bool
) -> None:
    """Leave the effect of STEP as it is, and go on with the undo of the others.

    STEP is its key, like order-7/charge/1, or charge/1, or its name if that says which. A step that goes forward cannot
    be skipped: the saga needs its result.
    """
    found = await operations.sagas.named(saga, queue)
    done = await operations.sagas.skip(found.queue, found.id, step, reason=reason, dry_run=dry_run)
    _say(output, done, "skipped", f"{done.step} stays as it is, the undo of the others goes on", dry_run=dry_run)


@group.command("cancel")
@_identity
@_queue
@_reason
@_dry_run
@_yes
@operator
async def cancel(
    operations: Operations, output: Output, *, saga: str, queue: str | None, reason: str, dry_run: bool, yes: bool
) -> None:
    """Have undone what a saga did so far. An attempt that runs may end first."""
    found = await operations.sagas.named(saga, queue)
    foreseen = await operations.sagas.cancel(found.queue, found.id, reason=reason, dry_run=True)
    if not dry_run:
        confirm_typed(f"cancelling saga {found.id}", "cancel", yes=yes)
        foreseen = await operations.sagas.cancel(found.queue, found.id, reason=reason)
    follows = (
        "what it did is undone" if foreseen.woken else "what it did is undone when the attempt that runs has ended"
    )
    _say(output, foreseen, "cancelled", follows, dry_run=dry_run)


@group.command("resume")
@_identity
@_queue
@click.option(
    "--set", "members", type=pair, multiple=True, metavar="PATH=VALUE", help="Set a member, like drink=mocha."
)
@click.option("--body", help="The whole new input; - for standard input.")
@click.option("--body-file", type=click.Path(dir_okay=False, path_type=Path), help="A file with the whole new input.")
@_reason
@_dry_run
@operator
async def resume(
    operations: Operations,
    output: Output,
    *,
    saga: str,
    queue: str | None,
    members: tuple[tuple[str, str], ...],
    body: str | None,
    body_file: Path | None,
    reason: str,
    dry_run: bool,
) -> None:
    """Let a stuck saga go on forward with another input, checked as `dead edit` checks it.

    Steps that have ended stay as they are, with what they were given: the function is run again with the new input, and
    must come to the same steps until where it was left.
    """
    given = body_given(body, body_file)
    if (given is None) != bool(members):
        raise click.UsageError("give --set, --body or --body-file, one of them")
    found = await operations.sagas.named(saga, queue)
    view = await operations.sagas.instance(found.queue, found.id)
    before = json.dumps(view.input, ensure_ascii=False).encode()
    after = with_members(before, members) if given is None else given
    if not output.as_json:
        output.block(difference(before, after), styles=_DIFF_STYLES)
    done = await operations.sagas.resume(found.queue, found.id, after, reason=reason, dry_run=dry_run)
    assert done.checked is not None  # noqa: S101 - an input is always checked
    _say(output, done, "resumed", f"goes on with the new input, {HOW[done.checked]}", dry_run=dry_run)


@group.command("signal")
@_identity
@click.argument("name")
@click.argument("value", required=False)
@_queue
@_dry_run
@operator
async def signal(
    operations: Operations,
    output: Output,
    *,
    saga: str,
    name: str,
    value: str | None,
    queue: str | None,
    dry_run: bool,
) -> None:
    """Send a signal to a saga. VALUE is JSON if it parses as JSON, else a string; none is null."""
    found = await operations.sagas.named(saga, queue)
    done = await operations.sagas.signal(found.queue, found.id, name, _value(value), dry_run=dry_run)
    follows = "it is woken" if done.woken else "it is kept until it waits for it"
    _say(output, done, "signalled", f"{name}: {follows}", dry_run=dry_run)


async def _each(chosen: list[SagaView], act: Callable[[SagaView], Awaitable[None]]) -> None:
    """Do the same to each, whatever becomes of the others.

    Raises:
        OperationRefused: If it was refused for some; which ones was said.
    """
    refused = 0
    for view in chosen:
        try:
            await act(view)
        except OperationRefused as error:
            if len(chosen) == 1:
                raise
            complain(str(error))
            refused += 1
    if refused:
        raise OperationRefused(f"{refused} of {len(chosen)} sagas", "were left as they are", "the errors above say why")


def _say(output: Output, done: SagaDone, action: str, follows: str, *, dry_run: bool) -> None:
    view = done.saga
    facts = {"id": view.id, "queue": view.queue, "state": view.state, "woken": done.woken}
    facts |= {"letter": done.letter, "letter_left": done.letter_left, "step": done.step, "checked": done.checked}
    if dry_run:
        output.done(f"would have {action} saga {view.id}: {follows}", action=f"would have {action}", **facts)
        return
    output.done(f"{action} saga {view.id}: {follows}", action=action, **facts)
    if done.letter_left is not None:
        output.note(f"its dead letter is left, and changes nothing when it is redriven: {done.letter_left}")


def _row(view: SagaView, now_ms: int) -> Row:
    state = view.state if view.parked_for is None else f"{view.state}, parked"
    changed = f"{age(view.changed_at_ms, now_ms)} ago"
    return asdict(view), (view.id, view.queue, state, view.steps, changed, view.doing)


def _value(text: str | None) -> Any:  # noqa: ANN401 - JSON
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
