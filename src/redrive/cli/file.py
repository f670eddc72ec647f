"""`redrive doctor` and `redrive recover`: the embedded broker's file, whole or damaged.

Both read the file themselves: neither opens it as a broker does, so they also work on what no worker can open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redrive.cli.exits import Exit
from redrive.cli.output import Column, Document, Output, Row, column, identity, number
from redrive.cli.target import loaded
from redrive.errors import DeclarationError

if TYPE_CHECKING:
    from redrive.sqlite.damage.findings import Finding, Report
    from redrive.sqlite.damage.outcome import Outcome

_FILES: tuple[Column, ...] = (identity("FILE"), column("OWNER"), column("MODE"), number("BYTES"))
_FINDINGS: tuple[Column, ...] = (column("KIND"), column("FINDING"))
_SAVED: tuple[Column, ...] = (
    column("QUEUE"),
    number("SAVED"),
    number("UNCHECKED"),
    number("IN DOUBT"),
    number("DAMAGED"),
)

_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@click.argument("target", required=False, metavar="[APP|FILE]")
@click.option("--app-dir", default=".", show_default=True, help="The folder that the application's module is found in.")
@_json
@click.pass_context
def doctor(ctx: click.Context, target: str | None, *, app_dir: str, as_json: bool) -> None:
    """Look into the embedded broker's file, and say what is wrong with it and what to do.

    APP is named as for `redrive worker`; FILE is the database itself. Nothing is changed, and workers may run. The exit
    code is 0 when all is well, 1 when there are findings, and 2 when the file cannot be read.
    """
    from redrive.sqlite.damage.doctor import examine  # noqa: PLC0415 - `--help` does not need it

    output = Output(as_json=as_json)
    report = examine(_file(target, app_dir), output.now_ms)
    if as_json:
        output.json(_document(report))
    else:
        _print(output, report)
    ctx.exit(report.state)


@click.command()
@click.argument("file", metavar="FILE")
@click.argument("new_file", metavar="NEW_FILE")
@click.option("--dry-run", is_flag=True, help="Say what would be saved, and make nothing.")
@_json
@click.pass_context
def recover(ctx: click.Context, file: str, new_file: str, *, dry_run: bool, as_json: bool) -> None:
    """Save what is whole of a damaged FILE into NEW_FILE.

    FILE is only read, and NEW_FILE must not exist. What is damaged is counted, and written to NEW_FILE.damaged.jsonl as
    far as it can be read; there are bodies in it, so only its owner may read it. The exit code is 0 when everything was
    saved, and 1 when something was damaged. Stop the workers first.
    """
    from redrive.sqlite.damage.recover import recover as save  # noqa: PLC0415 - `--help` does not need it

    output = Output(as_json=as_json)
    outcome = save(_path(file), _path(new_file), output.now_ms, dry_run=dry_run)
    if as_json:
        output.json(_saved_document(outcome))
    else:
        _print_saved(output, outcome)
    ctx.exit(Exit.DONE if outcome.is_whole else Exit.REFUSED)


# Which file


def _file(target: str | None, app_dir: str) -> str:
    """The file that is meant: by its name or address, or as the broker of an application.

    Raises:
        DeclarationError: If nothing was named, or the application cannot be imported.
    """
    from redrive.connections import absolute, file_of  # noqa: PLC0415 - `--help` does not need it
    from redrive.loading import configured_target  # noqa: PLC0415 - likewise

    if target is not None and (target.startswith("sqlite:") or ":" not in target or Path(target).exists()):
        return _path(target)
    name = target or configured_target()
    if name is not None:
        return os.fspath(file_of(loaded(name, app_dir).address()))
    address = os.environ.get("REDRIVE_BROKER")
    if address is None:
        remedy = "give it, or set REDRIVE_APP or REDRIVE_BROKER, or write [tool.redrive] app in pyproject.toml"
        raise DeclarationError("an application or a file", "is not named", remedy)
    return os.fspath(file_of(absolute(address, Path.cwd())))


def _path(name: str) -> str:
    from redrive.connections import absolute, file_of  # noqa: PLC0415 - `--help` does not need it

    if name.startswith("sqlite:"):
        return os.fspath(file_of(absolute(name, Path.cwd())))
    return os.fspath(Path(name).expanduser().absolute())


# What was found


def _print(output: Output, report: Report) -> None:
    output.facts(
        [
            ("file", report.path),
            ("schema", None if report.schema is None else f"{report.schema}, of {report.known_schema} known"),
            ("application id", None if report.application_id is None else f"{report.application_id:#x}"),
            ("size", _size(report.size)),
            ("log", _size(report.log_size)),
            ("free disk", f"{_size(report.free_disk)}, sends are refused below {_size(report.floor)}"),
            ("open in", None if report.open_by is None else f"process {report.open_by}"),
            ("queues", report.queues),
            ("messages", f"{report.messages}, {report.set_aside} set aside, {report.unchecked} without a checksum"),
            ("entries", report.entries),
            *(("note", note) for note in report.notes),
        ]
    )
    if report.files:
        output.heading("beside it")
        output.table(
            _FILES, [({}, (one.name, one.owner, one.mode, one.size or "")) for one in report.files], nothing=""
        )
    if not report.findings:
        output.done(f"{report.path} is healthy")
        return
    count = report.counts.total()
    output.heading("1 finding" if count == 1 else f"{count} findings")
    output.table(_FINDINGS, [_row(one) for one in report.findings], nothing="")
    for kind, count in report.counts.items():
        shown = sum(one.kind == kind for one in report.findings)
        if count > shown:
            output.note(f"{count - shown} more of the kind {kind} are not shown")


def _row(finding: Finding) -> Row:
    return {}, (finding.kind, str(finding))


def _document(report: Report) -> Document:
    return {
        "path": report.path,
        "state": report.state.name.lower(),
        "schema": report.schema,
        "known_schema": report.known_schema,
        "application_id": report.application_id,
        "size": report.size,
        "log_size": report.log_size,
        "free_disk": report.free_disk,
        "floor": report.floor,
        "open_by": report.open_by,
        "files": [{"name": one.name, "owner": one.owner, "mode": one.mode, "size": one.size} for one in report.files],
        "queues": report.queues,
        "messages": report.messages,
        "set_aside": report.set_aside,
        "unchecked": report.unchecked,
        "entries": report.entries,
        "findings": [
            {"kind": one.kind, "queue": one.queue, "id": one.id, "problem": one.problem, "remedy": one.remedy}
            for one in report.findings
        ],
        "counts": dict(report.counts),
        "notes": report.notes,
    }


# What was saved


def _print_saved(output: Output, outcome: Outcome) -> None:
    rows: list[Row] = [
        ({}, (name, one.messages, one.unchecked, one.in_doubt, one.damaged.total()))
        for name, one in outcome.queues.items()
    ]
    output.table(_SAVED, rows, nothing="there was no queue in it")
    reasons = [
        (f"damaged in {name}", f"{count}: {reason}")
        for name, one in outcome.queues.items()
        for reason, count in one.damaged.items()
    ]
    output.heading("also")
    output.facts(
        [
            ("entries of the store", outcome.rows["entry"]),
            ("remembered by FIFO queues", outcome.rows["deduplication"] + outcome.rows["receive_attempt"]),
            ("move tasks", outcome.rows["move_task"]),
            *reasons,
            *((f"damaged in {table}", count) for table, count in outcome.damaged.items() if table != "message"),
            *((f"unreadable pages of {table}", count) for table, count in outcome.unreadable.items()),
            ("mended by an index", outcome.mended or None),
            ("old copies left out", sum(outcome.left.values()) or None),
            *(("note", note) for note in outcome.notes),
        ]
    )
    if not outcome.is_whole and not outcome.dry_run:
        output.note(f"what is damaged is in {outcome.damaged_path}; there are bodies in it: only its owner may read it")
    where = f"would be saved to {outcome.new_path}" if outcome.dry_run else f"saved to {outcome.new_path}"
    output.done(f"{outcome.rows['message']} messages {where}")


def _saved_document(outcome: Outcome) -> Document:
    return {
        "action": "would save" if outcome.dry_run else "saved",
        "path": outcome.path,
        "new_path": outcome.new_path,
        "damaged_path": None if outcome.is_whole or outcome.dry_run else outcome.damaged_path,
        "schema": outcome.schema,
        "queues": [
            {
                "queue": name,
                "saved": one.messages,
                "unchecked": one.unchecked,
                "in_doubt": one.in_doubt,
                "damaged": dict(one.damaged),
            }
            for name, one in outcome.queues.items()
        ],
        "rows": dict(outcome.rows),
        "damaged": dict(outcome.damaged),
        "unreadable": dict(outcome.unreadable),
        "left": outcome.left,
        "mended": outcome.mended,
        "notes": outcome.notes,
    }


def _size(size: int | None) -> str:
    if size is None:
        return "an unknown number of bytes"
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} bytes"
