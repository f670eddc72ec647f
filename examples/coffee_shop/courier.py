"""The courier: sends a rider for an order, if one is free. See `partner.py`.

python courier.py --port 8003

POST /bookings       {"order_id": "…"}: the entry names the rider
POST /cancellations  {"order_id": "…"}
"""

from __future__ import annotations

from typing_extensions import override

from entries import Ask, Ledger, Refused, What
from partner import partner
from server import main

RIDERS = ("Rosa", "Kofi", "Mei", "Jonas", "Amina")


class Rides(Ledger):
    """A ledger of rides: riders go in turn."""

    @override
    def _agreed(self, ask: Ask) -> What:
        if self.mode == "refuse":
            raise Refused("no rider is free")
        return {"rider": RIDERS[self.totals()["done"] % len(RIDERS)]}


service = partner("courier", Rides, agreeing="bookings", taking_back="cancellations")

if __name__ == "__main__":
    main(service, name="courier", port=8003)
