# ruff: noqa: ARG001 - a replacement takes what it replaces took
"""Engines that are broken on purpose: the real one, with one statement or one method changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from redrive.broker import Outgoing, Sends, Sent
from redrive.sqlite import arrivals, deduplication, engine, lines, move_tasks, queues, tenants
from redrive.sqlite.statements import migrations

Break = Callable[[pytest.MonkeyPatch], None]
"""Breaks the engine until the patch is undone."""

_OWN_SQL = {
    name: module._SQL
    for name, module in (
        ("engine", engine),
        ("lines", lines),
        ("deduplication", deduplication),
        ("tenants", tenants),
        ("queues", queues),
        ("move_tasks", move_tasks),
    )
}


def sql(statement: str, old: str, new: str) -> Break:
    """Another text in a statement, named by its file and its name: `engine.receive`."""
    module, _, name = statement.partition(".")

    def broken(patch: pytest.MonkeyPatch) -> None:
        statements = _OWN_SQL[module]
        assert old in statements[name], f"{statement} has no {old!r} any more; break it in another way"
        patch.setitem(statements, name, statements[name].replace(old, new))

    return broken


def method(owner: type, name: str, replacement: Callable[..., Any]) -> Break:
    """Another method."""
    assert hasattr(owner, name), f"{owner.__name__} has no {name!r} any more; break it in another way"
    return lambda patch: patch.setattr(owner, name, replacement)


def both(*broken: Break) -> Break:
    """Several changes that make one fault."""

    def all_of_them(patch: pytest.MonkeyPatch) -> None:
        for one in broken:
            one(patch)

    return all_of_them


def reuses_numbers(patch: pytest.MonkeyPatch) -> None:
    """Without AUTOINCREMENT the number of what was deleted last is given again."""
    scripts = [
        script.replace("seq INTEGER PRIMARY KEY AUTOINCREMENT", "seq INTEGER PRIMARY KEY") for script in migrations()
    ]
    assert scripts != migrations()
    patch.setattr("redrive.sqlite.database.migrations", lambda: scripts)


def answers_before_it_writes(patch: pytest.MonkeyPatch) -> None:
    """The last message of a call stays in memory until the next call."""
    kept: dict[int, list[Outgoing]] = {}
    send = arrivals.Arrivals.send

    def late(self: arrivals.Arrivals, target: queues.Queue, messages: Sequence[Outgoing], now_ms: int) -> Sends:
        before = kept.pop(id(self), [])
        kept[id(self)] = list(messages[-1:])
        return send(self, target, [*before, *messages[:-1]], now_ms)[len(before) :] + [None for _ in messages[-1:]]

    patch.setattr(arrivals.Arrivals, "send", late)


def remembers_in_memory(patch: pytest.MonkeyPatch) -> None:
    """What was sent is known to the process that sent it, as long as it lives."""
    known: dict[tuple[int, int, str], tuple[Sent, int]] = {}

    def sent_before(self: object, queue: queues.Queue, key: str, now_ms: int) -> Sent | None:
        sent, until_ms = known.get((id(self), queue.id, key), (None, 0))
        return Sent(id=sent.id, sequence=sent.sequence, duplicate=True) if sent and until_ms > now_ms else None

    def remember_sent(self: object, queue: queues.Queue, key: str, sent: Sent, now_ms: int) -> None:
        known[id(self), queue.id, key] = (sent, now_ms + deduplication.INTERVAL_MS)

    patch.setattr(deduplication.Deduplication, "sent_before", sent_before)
    patch.setattr(deduplication.Deduplication, "remember_sent", remember_sent)


def moves_and_counts_apart(patch: pytest.MonkeyPatch) -> None:
    """Each message is moved in a transaction of its own, and counted in a later one."""
    move_row = engine.Engine.move_row

    def torn(self: engine.Engine, *arguments: Any) -> None:
        move_row(self, *arguments)
        self._execute("COMMIT")
        self._execute("BEGIN IMMEDIATE")

    patch.setattr(engine.Engine, "move_row", torn)


def guesses_receipts(patch: pytest.MonkeyPatch) -> None:
    """Number and count of receives, which everybody knows."""
    for module in (engine, lines):
        for name, statement in module._SQL.items():
            guessable = "CAST(printf('%016d', seq * 1000 + receive_count) AS BLOB)"
            patch.setitem(module._SQL, name, statement.replace("randomblob(16)", guessable))


def looks_at_nothing(self: object, *_: object) -> list[str]:
    """No memory of receives."""
    return []


def always_whole(*_: object) -> bool:
    """No checksum is looked at."""
    return True


def any_room(self: object, source: object, now_ms: int, limit: int) -> int:
    """No limit of what is in flight."""
    return limit


def the_same_round(self: object, queue: queues.Queue, group: str | None) -> int:
    """First come, first served."""
    return queue.round


def never_locked(self: object, *_: object) -> bool:
    """Nothing is said about lines any more."""
    return False


def at_once(rate: int | None, next_at_ms: float, now_ms: int) -> tuple[int, float]:
    """No rate."""
    return 500, float(now_ms)


def its_own_id(self: deduplication.Deduplication, queue: queues.Queue, key: str, now_ms: int) -> Sent | None:
    """A duplicate is told of, and not of which one."""
    row = self._execute(deduplication._SQL["sent_before"], (queue.id, key, now_ms)).fetchone()
    return None if row is None else Sent(id=key, sequence=row[1] + 1, duplicate=True)
