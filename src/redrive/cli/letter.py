"""One dead letter, as `redrive dead show` and `redrive dead ls` print it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from redrive.catalogue import Letter
from redrive.cli.edit import pretty
from redrive.cli.output import Column, Document, Output, Row, brief, column, identity, number
from redrive.cli.printable import age, instant, shortened
from redrive.cli.queue import body_document
from redrive.message import Failure

COLUMNS: tuple[Column, ...] = (
    identity("ID"),
    column("QUEUE"),
    column("STATE", {"dead": "red", "redriven": "green"}),
    column("DIED"),
    number("FAILURES"),
    brief("REASON"),
)
"""Those of `dead ls`."""
_SHOWN_OF_REASON = 80
_SHOWN_OF_BODY = 20_000
_ATTEMPTS: tuple[Column, ...] = (
    column("AT"),
    column("KIND"),
    column("ERROR"),
    column("TEXT"),
    column("DEPENDENCY"),
    number("TOOK"),
    column("WORKER"),
)
_AUDIT: tuple[Column, ...] = (column("AT"), column("WHO"), column("WHAT"))


def row(letter: Letter, now_ms: int) -> Row:
    """A letter's line in a list."""
    reason = shortened(letter.record.reason, _SHOWN_OF_REASON)
    died = f"{age(letter.died_at_ms, now_ms)} ago"
    return summary(letter), (letter.id, letter.queue, letter.state, died, letter.record.total, reason)


def summary(letter: Letter) -> Document:
    """What a list says of a letter, as JSON."""
    return {
        "id": letter.id,
        "queue": letter.queue,
        "state": letter.state,
        "died_at_ms": letter.died_at_ms,
        "sent_at_ms": letter.sent_at_ms,
        "reason": letter.record.reason,
        "kind": letter.record.last.kind,
        "error": letter.record.last.error,
        "failures": letter.record.total,
        "fingerprint": letter.fingerprint,
        "size": letter.size,
    }


def document(letter: Letter, body: bytes) -> Document:
    """Everything of a letter, as JSON."""
    record = letter.record
    return {
        **summary(letter),
        **body_document(body),
        "attributes": letter.attributes,
        "group": letter.group,
        "first_failure": asdict(record.first),
        "last_failure": asdict(record.last),
        "attempts": [asdict(one) for one in record.recent],
        "audit": list(letter.audit),
    }


def print_letter(output: Output, letter: Letter, body: bytes) -> None:
    """Everything of a letter, for people."""
    output.facts(_facts(letter, output.now_ms))
    output.heading("body")
    output.block(_shown(body))
    for title, failure in _failures(letter):
        output.heading(title)
        output.block("\n".join(_lines(failure)))
    attempts: list[Row] = [(asdict(one), _attempt(one)) for one in letter.record.recent]
    output.heading(f"attempts: {len(attempts)} recorded of {letter.record.total}")
    output.table(_ATTEMPTS, attempts, nothing="none")
    if letter.audit:
        output.heading("audit trail")
        output.table(_AUDIT, [(one, _audited(one)) for one in letter.audit], nothing="none")


def _facts(letter: Letter, now_ms: int) -> Iterator[tuple[str, object]]:
    yield "letter", letter.id
    yield "queue", letter.queue
    yield "state", letter.state
    yield "reason", letter.record.reason
    yield "died", f"{instant(letter.died_at_ms)}, {age(letter.died_at_ms, now_ms)} ago"
    yield "sent", f"{instant(letter.sent_at_ms)}, {age(letter.sent_at_ms, now_ms)} ago"
    for name, value in letter.attributes.items():
        yield "attribute", f"{name}={value}"
    yield "group", letter.group
    yield "size", f"{letter.size} bytes"
    yield "fingerprint", letter.fingerprint


def _shown(body: bytes) -> str:
    text = pretty(body)
    more = len(text) - _SHOWN_OF_BODY
    return text if more <= 0 else f"{text[:_SHOWN_OF_BODY]}\n… {more} more characters; --json prints all"


def _failures(letter: Letter) -> list[tuple[str, Failure]]:
    if letter.record.total == 1:
        return [("first and last failure", letter.record.last)]
    return [("first failure", letter.record.first), ("last failure", letter.record.last)]


def _lines(failure: Failure) -> Iterator[str]:
    yield f"{instant(failure.at_ms)}  {failure.kind}, after {failure.took_ms} ms, in queue {failure.queue}"
    for name, value in (
        ("dependency", failure.dependency),
        ("worker", failure.worker),
        ("code version", failure.code_version),
    ):
        if value:
            yield f"{name} {value}"
    if failure.error or failure.text:
        yield f"{failure.error}: {failure.text}" if failure.error else failure.text
    if failure.traceback:
        yield failure.traceback.rstrip("\n")


def _attempt(failure: Failure) -> tuple[object, ...]:
    at, took = instant(failure.at_ms), f"{failure.took_ms} ms"
    text = shortened(failure.text, _SHOWN_OF_REASON)
    return at, failure.kind, failure.error, text, failure.dependency or "", took, failure.worker


def _audited(action: dict[str, Any]) -> tuple[object, ...]:
    return instant(action["at_ms"]), action["who"], action["what"]
