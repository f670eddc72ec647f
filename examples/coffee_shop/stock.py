"""The stock: holds beans and oat milk for an order, as long as there are any. See `partner.py`.

    python stock.py --port 8002

    POST /reservations  {"order_id": "…", "items": {"beans": 2, "oat milk": 2}}
    POST /releases      {"order_id": "…"}

`refuse` pours the oat milk away, `none` fills the shelf again. Milk that ran out by itself shows as `refuse`, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from entries import Ask, Ledger, Mode, Refused, What
from partner import partner
from server import main

if TYPE_CHECKING:
    from pathlib import Path

FULL = {"beans": 120, "oat milk": 60}
"""Portions on a full shelf; a large latte takes three of each."""

MILK = "oat milk"


class Shelf(Ledger):
    """A ledger with a shelf: an entry takes its portions off it, in the same transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._db.executescript(SHELF)
        self._db.executemany("INSERT INTO shelf VALUES (?, ?) ON CONFLICT DO NOTHING", FULL.items())

    @override
    def shelf(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT item, portions FROM shelf ORDER BY item").fetchall())

    @property
    @override
    def mode(self) -> Mode:
        mode = super().mode
        return "refuse" if mode == "none" and not all(self.shelf().values()) else mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._transaction():
            self._db.execute("UPDATE state SET mode = ?", (mode,))
            if mode == "none":
                self._db.executemany("UPDATE shelf SET portions = ?2 WHERE item = ?1", FULL.items())
            if mode == "refuse":
                self._db.execute("UPDATE shelf SET portions = 0 WHERE item = ?", (MILK,))

    @override
    def _agreed(self, ask: Ask) -> What:
        there = self.shelf()
        for item, portions in ask.items.items():
            if there.get(item, 0) < portions:
                raise Refused(f"out of {item}")
            self._db.execute("UPDATE shelf SET portions = portions - ? WHERE item = ?", (portions, item))
        return dict(ask.items)

    @override
    def _taken_back(self, what: What) -> None:
        for item, portions in what.items():
            if item == MILK and super().mode == "refuse":
                continue  # poured away with the rest
            self._db.execute("UPDATE shelf SET portions = portions + ? WHERE item = ?", (portions, item))


SHELF = """
CREATE TABLE IF NOT EXISTS shelf (
    item     TEXT    PRIMARY KEY,
    portions INTEGER NOT NULL CHECK (portions >= 0)
) STRICT;
"""

service = partner("stock", Shelf, agreeing="reservations", taking_back="releases")

if __name__ == "__main__":
    main(service, name="stock", port=8002)
