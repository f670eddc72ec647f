"""A database with an outbox and a table of the application's own, of either kind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redrive.outbox import ddl


@dataclass(frozen=True)
class Database:
    """Where it is, and how the application connects."""

    address: str
    dialect: str
    connect: Callable[[], Any]

    def count(self) -> int:
        """The rows in its outbox."""
        with contextlib.closing(self.connect()) as connection:
            (found,) = connection.execute("SELECT count(*) FROM redrive_outbox").fetchone()
            return int(found)

    def place(self, number: int) -> str:
        """The SQL that notes an order of the application's own."""
        return f"INSERT INTO shop_order (id) VALUES ({number:d})"  # noqa: S608 - a number

    def placed(self) -> set[int]:
        """The orders that were committed."""
        with contextlib.closing(self.connect()) as connection:
            return {one for (one,) in connection.execute("SELECT id FROM shop_order").fetchall()}


def prepare(database: Database) -> Database:
    """Make the tables, twice: doing it again changes nothing."""
    with contextlib.closing(database.connect()) as connection:
        for _ in range(2):
            for statement in ddl(database.dialect).split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute("CREATE TABLE shop_order (id INTEGER PRIMARY KEY)")
        connection.commit()
    return database
