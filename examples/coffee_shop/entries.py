"""The ledger of a partner: what it agreed to for an order, and what it took back, each under a key of its own.

1. One key is entered once. Repeated, it is answered with the first entry; for another order, with 422.
2. What was taken back is not agreed to afterwards: a call that its caller gave up on cannot take effect late.
3. An entry that was answered is on disk: `kill -9` forgets none.

Nothing forbids to take back twice under two keys, on purpose: a shop that does can be caught at it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from pydantic import BaseModel, Field

from doorkeeper import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Mode = Literal["none", "down", "slow", "refuse"]
Kind = Literal["done", "undone"]
What = dict[str, int | str]


class Ask(BaseModel):
    """What a caller wants for an order."""

    order_id: Annotated[str, Field(min_length=1, max_length=60)]
    items: dict[str, Annotated[int, Field(gt=0)]] = {}


class Entry(TypedDict):
    """One line of the ledger."""

    kind: Kind
    order_id: str
    what: What
    """Empty in what was taken back: there was nothing, and there will not be."""
    key: str
    at_ms: int


class Refused(Exception):
    """A business answer: the partner works, and the answer is no."""


class Ledger:
    """What a partner must not forget, in one SQLite file (WAL, `synchronous=FULL`).

    Every change is one transaction, committed when it returns. They run on the event loop: a few milliseconds, and
    nothing can come between looking a key up and entering it. A partner says by `_agreed` and `_taken_back` what its
    entries mean.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def agree(self, ask: Ask, key: str) -> Entry:
        """Agree to something, under a key that was not used before.

        Raises:
            Refused: If it cannot be had, or was taken back already (invariant 2).
        """
        with self._transaction():
            if self._is_taken_back(ask.order_id):
                raise Refused("it was cancelled before")
            return self._enter("done", ask.order_id, self._agreed(ask), key)

    def take_back(self, ask: Ask, key: str) -> Entry:
        """Take back what was agreed to for an order, if anything was."""
        with self._transaction():
            what = {} if self._is_taken_back(ask.order_id) else self._held_for(ask.order_id)
            self._taken_back(what)
            return self._enter("undone", ask.order_id, what, key)

    def find(self, key: str, kind: Kind, order_id: str) -> Entry | None:
        """The entry under a key.

        Raises:
            BadRequest: If the key was used for something else (422).
        """
        row = self._db.execute(f"{READ} WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        entry = _entry(row)
        if (entry["kind"], entry["order_id"]) != (kind, order_id):
            raise BadRequest(422, "Idempotency-Key: this one was used for something else", "Idempotency-Key")
        return entry

    def newest(self, limit: int | None) -> list[Entry]:
        """The last entries, or all of them, oldest first."""
        rows = self._db.execute(f"{READ} ORDER BY seq DESC LIMIT ?", (-1 if limit is None else limit,)).fetchall()
        return [_entry(row) for row in reversed(rows)]

    def totals(self) -> dict[str, int]:
        """How much was agreed to, and how much of it taken back."""
        done, undone = self._db.execute(TOTALS).fetchone()
        return {"done": done, "undone": undone}

    def shelf(self) -> dict[str, int]:
        """What there is to be had, where that can run out."""
        return {}

    @property
    def mode(self) -> Mode:
        """The present fault; it outlives the process, as an outage would."""
        mode: Mode = self._db.execute("SELECT mode FROM state").fetchone()[0]
        return mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._db.execute("UPDATE state SET mode = ?", (mode,))

    def _agreed(self, ask: Ask) -> What:
        """What is agreed to; in a transaction.

        Raises:
            Refused: If it cannot be had.
        """
        raise NotImplementedError

    def _taken_back(self, what: What) -> None:
        """What was agreed to can be had by others again; in a transaction."""

    def _is_taken_back(self, order_id: str) -> bool:
        held = "SELECT 1 FROM entries WHERE order_id = ? AND kind = 'undone'"
        return self._db.execute(held, (order_id,)).fetchone() is not None

    def _held_for(self, order_id: str) -> What:
        held = "SELECT what FROM entries WHERE order_id = ? AND kind = 'done'"
        row = self._db.execute(held, (order_id,)).fetchone()
        what: What = {} if row is None else json.loads(row[0])
        return what

    def _enter(self, kind: Kind, order_id: str, what: What, key: str) -> Entry:
        row = (kind, order_id, json.dumps(what), key, time.time_ns() // 1_000_000)
        self._db.execute("INSERT INTO entries (kind, order_id, what, key, at_ms) VALUES (?, ?, ?, ?, ?)", row)
        return _entry(row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise


def _entry(row: tuple[Kind, str, str, str, int]) -> Entry:
    kind, order_id, what, key, at_ms = row
    return {"kind": kind, "order_id": order_id, "what": json.loads(what), "key": key, "at_ms": at_ms}


SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS entries (
    seq      INTEGER PRIMARY KEY,
    kind     TEXT    NOT NULL CHECK (kind IN ('done', 'undone')),
    order_id TEXT    NOT NULL,
    what     TEXT    NOT NULL,
    key      TEXT    NOT NULL UNIQUE,
    at_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_of_an_order ON entries (order_id);
CREATE TABLE IF NOT EXISTS state (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    mode TEXT    NOT NULL CHECK (mode IN ('none', 'down', 'slow', 'refuse'))
) STRICT;
INSERT INTO state (one, mode) VALUES (1, 'none') ON CONFLICT DO NOTHING;
"""

READ = "SELECT kind, order_id, what, key, at_ms FROM entries"

TOTALS = """
SELECT count(*) FILTER (WHERE kind = 'done'), count(*) FILTER (WHERE kind = 'undone' AND what <> '{}') FROM entries
"""
