"""`redrive dead`: letters that a person has to look at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redrive.catalogue import DEAD, DISCARDED, GONE, REDRIVEN, Letter
from redrive.cli.asking import agreed, confirm_typed, edited, somebody_is_there
from redrive.cli.edit import difference, from_text, pretty, with_members
from redrive.cli.exits import complain
from redrive.cli.letter import COLUMNS, document, print_letter, row
from redrive.cli.output import Output
from redrive.cli.queue import HOW
from redrive.cli.target import operator
from redrive.cli.values import body_given, pair
from redrive.errors import OperationRefused, PayloadError, RedriveError

if TYPE_CHECKING:
    from redrive.operations import Checked, Operations

_LISTED = 100
_STATES = click.Choice([DEAD, REDRIVEN, DISCARDED, GONE, "all"])
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}

_queue = click.option("--queue", help="Only letters of this queue.")
_all = click.option("--all", "everything", is_flag=True, help="All dead letters, or with --queue all of that queue.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group("dead")
def group() -> None:
    """Dead letters: look, edit, redrive, discard. An id may be given by its beginning."""


@group.command("ls")
@_queue
@click.option("--state", type=_STATES, default=DEAD, show_default=True, help="What was done is kept for 14 days.")
@click.option("--limit", type=click.IntRange(1), help=f"At most so many; unless given {_LISTED}, and all with --json.")
@operator
async def ls(operations: Operations, output: Output, queue: str | None, state: str, limit: int | None) -> None:
    """List the dead letters, by queue and time of sending."""
    most = limit if limit is not None or output.as_json else _LISTED
    letters: list[Letter] = []
    async for letter in await _letters(operations, queue, None if state == "all" else state):
        if most is not None and len(letters) == most:
            output.note(f"there are more than {most}; --limit shows more")
            break
        letters.append(letter)
    output.table(COLUMNS, (row(one, output.now_ms) for one in letters), nothing="no letters")


@group.command("show")
@click.argument("identity", metavar="ID")
@_queue
@operator
async def show(operations: Operations, output: Output, identity: str, queue: str | None) -> None:
    """Show one letter: body, attributes, why it is dead, every recorded attempt, and who did what to it."""
    letter = await operations.letter(identity, queue)
    body = await operations.body(letter)
    if output.as_json:
        output.json(document(letter, body))
    else:
        print_letter(output, letter, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """How a body shall be changed."""

    members: tuple[tuple[str, str], ...]
    body: bytes | None

    def apply(self, before: bytes) -> bytes:
        if self.body is not None:
            return self.body
        return with_members(before, self.members) if self.members else _by_hand(pretty(before), before)


@group.command("edit")
@click.argument("identity", metavar="ID")
@_queue
@click.option(
    "--set",
    "members",
    type=pair,
    multiple=True,
    metavar="PATH=VALUE",
    help="Set a member, like drink=mocha.",
)
@click.option("--editor", is_flag=True, help="Open $VISUAL or $EDITOR, which is what happens without --set too.")
@click.option("--body", help="The whole new body; - for standard input.")
@click.option("--body-file", type=click.Path(dir_okay=False, path_type=Path), help="A file with the whole new body.")
@click.option("--redrive/--no-redrive", "send", default=None, help="Send it, or only check it. Unless given: ask.")
@click.option("--dry-run", is_flag=True, help="The same as --no-redrive.")
@_yes
@operator
async def edit(
    operations: Operations,
    output: Output,
    *,
    identity: str,
    queue: str | None,
    members: tuple[tuple[str, str], ...],
    editor: bool,
    body: str | None,
    body_file: Path | None,
    send: bool | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Change the body of a letter, and send it back to its queue under its own id.

    A value is JSON if it parses as JSON, else a string; members are named like drink, customer.name, items.0 or
    /customer/name. What would still not fit the queue is refused before it is sent. Without a terminal nobody is asked,
    and what fits is sent.
    """
    change = _Change(members=members, body=body_given(body, body_file))
    _must_be_one_way(change, editor=editor)
    letter = await operations.letter(identity, queue)
    before = await operations.body(letter)
    after, checked = await _changed(operations, letter, before, change)
    diff = difference(before, after)
    if not output.as_json:
        output.block(diff, styles=_DIFF_STYLES)
    facts = {"id": letter.id, "queue": letter.queue, "checked": checked, "size": len(after), "diff": diff}
    name = f"letter {letter.id} for {letter.queue}, {HOW[checked]}"
    if dry_run or not _shall_send(letter, send=send, yes=yes, how=HOW[checked]):
        output.done(f"would redrive {name}; nothing was sent", action="would redrive", **facts)
        return
    await operations.redrive(letter, after)
    output.done(f"edited and redriven {name}", action="redriven", **facts)


@group.command("redrive")
@click.argument("identities", nargs=-1, metavar="[ID]...")
@_queue
@_all
@click.option("--dry-run", is_flag=True, help="Say which, and whether they would be dead again; send nothing.")
@operator
async def redrive(
    operations: Operations,
    output: Output,
    *,
    identities: tuple[str, ...],
    queue: str | None,
    everything: bool,
    dry_run: bool,
) -> None:
    """Send letters back to their queues as they are, under their own ids, with their counters at zero."""
    letters = await _chosen(operations, identities, queue, everything=everything)
    if not letters:
        output.note("no dead letters to redrive")

    def say(letter: Letter) -> None:
        output.done(f"redriven {letter.id} to {letter.queue}", action="redriven", id=letter.id, queue=letter.queue)

    async def foresee(letter: Letter) -> None:
        problem = await _foreseen(operations, letter)
        again = "" if problem is None else f", where it would be dead again: {problem}"
        facts = {"id": letter.id, "queue": letter.queue, "dead_again": problem}
        output.done(f"would redrive {letter.id} to {letter.queue}{again}", action="would redrive", **facts)

    if dry_run:
        await _each(_tried(letters, foresee), len(letters))
    else:
        await _each(operations.redrive_each(letters), len(letters), say)


@group.command("discard")
@click.argument("identities", nargs=-1, metavar="[ID]...")
@_queue
@_all
@click.option("--dry-run", is_flag=True, help="Say which, and delete nothing.")
@_yes
@operator
async def discard(
    operations: Operations,
    output: Output,
    *,
    identities: tuple[str, ...],
    queue: str | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete letters for good. Who did it is written down and kept for 14 days."""
    letters = await _chosen(operations, identities, queue, everything=everything)
    if not letters:
        output.note("no dead letters to discard")
    elif not dry_run:
        confirm_typed(f"discarding {len(letters)} letters", f"discard {len(letters)}", yes=yes)

    def say(letter: Letter) -> None:
        did = "would discard" if dry_run else "discarded"
        output.done(f"{did} {letter.id} of {letter.queue}", action=did, id=letter.id, queue=letter.queue)

    done = _tried(letters, _must_be_dead) if dry_run else operations.discard_each(letters)
    await _each(done, len(letters), say)


@group.command("intake")
@_queue
@operator
async def intake(operations: Operations, output: Output, queue: str | None) -> None:
    """Hold the catalogue against the dead-letter queues now, as a worker does now and then.

    A letter without an entry gets one; an entry whose letter is not there any more says `gone`.
    """
    names = [queue] if queue is not None else [*(await operations.overview()).queues]
    for name in names:
        found = await operations.take_in(name)
        rest = "" if found.complete else "; not all could be seen: some are in somebody's hands, or there are too many"
        text = f"{name}: {found.letters} letters, {found.entered} of them new to the catalogue, {found.gone} gone{rest}"
        output.done(text, action="looked through", **{"queue": name, **asdict(found)})


async def _letters(operations: Operations, queue: str | None, state: str | None) -> AsyncIterator[Letter]:
    """The letters of a queue that exists, or of all.

    Raises:
        QueueNotFound: If it does not exist.
    """
    if queue is not None:
        await operations.queue(queue)
    return operations.letters(queue, state=state)


async def _chosen(
    operations: Operations, identities: Sequence[str], queue: str | None, *, everything: bool
) -> list[Letter]:
    """The letters that were named: a fixed set, found before the first is touched."""
    if bool(identities) == everything:
        raise click.UsageError("give ids or --all, one of the two")
    if everything:
        return [letter async for letter in await _letters(operations, queue, DEAD)]
    named = [await operations.letter(identity, queue) for identity in identities]
    return list({(letter.queue, letter.id): letter for letter in named}.values())


async def _tried(
    letters: Sequence[Letter], act: Callable[[Letter], Awaitable[None]]
) -> AsyncGenerator[tuple[Letter, RedriveError | None], None]:
    """Do the same to each letter, whatever becomes of the others."""
    for letter in letters:
        try:
            await act(letter)
        except (OperationRefused, PayloadError) as error:
            yield letter, error
        else:
            yield letter, None


async def _each(
    done: AsyncGenerator[tuple[Letter, RedriveError | None], None],
    count: int,
    say: Callable[[Letter], None] | None = None,
) -> None:
    """Say what was done to each letter; a broker that is away ends it.

    Raises:
        OperationRefused: If it was refused for some; which ones was said.
    """
    refused = 0
    async with aclosing(done):
        async for letter, error in done:
            if error is None:
                if say is not None:
                    say(letter)
                continue
            if count == 1:
                raise error
            complain(str(error))
            refused += 1
    if refused:
        raise OperationRefused(f"{refused} of {count} letters", "were left as they are", "the errors above say why")


async def _foreseen(operations: Operations, letter: Letter) -> str | None:
    """Why a letter would be dead again at once; None: nothing is known against it."""
    try:
        await operations.edit(letter, await operations.body(letter))
    except PayloadError as error:
        return str(error)
    return None


async def _changed(operations: Operations, letter: Letter, before: bytes, change: _Change) -> tuple[bytes, Checked]:
    """The new body and how it was checked; a person at an editor gets their text back while it does not fit."""
    after = change.apply(before)
    while True:
        _must_differ(before, after)
        try:
            return after, await operations.edit(letter, after)
        except PayloadError as error:
            by_hand = not change.members and change.body is None
            if not by_hand or not somebody_is_there():
                raise
            complain(str(error))
            if not agreed("edit it again?"):
                raise
        after = _by_hand(pretty(after), before)


def _by_hand(text: str, unchanged: bytes) -> bytes:
    saved = edited(text)
    if saved is None or saved.rstrip("\n") == text.rstrip("\n"):
        return unchanged
    return from_text(saved)


def _shall_send(letter: Letter, *, send: bool | None, yes: bool, how: str) -> bool:
    if send is not None or yes or not somebody_is_there():
        return send is not False
    return agreed(f"{how}; send it to {letter.queue} under its own id?")


def _must_be_one_way(change: _Change, *, editor: bool) -> None:
    ways = bool(change.members) + (change.body is not None) + editor
    if ways > 1:
        raise click.UsageError("give one of --set, --editor, --body and --body-file")
    if not ways and not somebody_is_there():
        raise click.UsageError("give --set, --body or --body-file; an editor needs a terminal, or --editor")


def _must_differ(before: bytes, after: bytes) -> None:
    if before == after:
        raise OperationRefused(
            "the edit", "changed nothing, and nothing was sent", "`redrive dead redrive` sends a letter as it is"
        )


async def _must_be_dead(letter: Letter) -> None:
    if letter.state != DEAD:
        raise OperationRefused(f"letter {letter.id!r}", f"is {letter.state}", "only dead letters can be discarded")
