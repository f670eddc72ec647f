"""Order in hand, and consumers that pause while a dependency is down, so that nothing leaves its place."""

from __future__ import annotations

from collections import deque
from typing import Any

from redrive.calling import Held
from redrive.circuit import State
from redrive.consumer import Consumer


class Order:
    """What a worker holds of each group: the first may start, the others wait behind it.

    On a standard queue nothing waits behind anything.
    """

    def __init__(self, *, fifo: bool) -> None:
        self._fifo = fifo
        self._behind: dict[str | None, deque[Held]] = {}

    def enter(self, held: Held) -> bool:
        """A message came in hand; whether it may start now."""
        if not self._fifo:
            return True
        group = held.delivery.message.group
        if group in self._behind:
            self._behind[group].append(held)
            return False
        self._behind[group] = deque()
        return True

    def leave(self, held: Held, *, gone: bool) -> tuple[Held | None, list[Held]]:
        """The first of its group left the hand.

        Args:
            held: the message.
            gone: whether it left the queue. If it comes back, what is behind it must not be handled before.

        Returns:
            Who may start now, and who has to go back.
        """
        if not self._fifo:
            return None, []
        group = held.delivery.message.group
        behind = self._behind.get(group, deque())
        if gone and behind:
            return behind.popleft(), []
        self._behind.pop(group, None)
        return None, list(behind)

    def clear(self) -> list[Held]:
        """Everything that waits behind another, which has to go back; what is behind a message that runs as well."""
        waiting = [held for behind in self._behind.values() for held in behind]
        for behind in self._behind.values():
            behind.clear()
        return waiting


async def let_through(consumer: Consumer[Any], room: int, *, in_hand: int) -> int:
    """How many messages to receive now: none while a circuit is open, one while it is half-open, or as there is room.

    A consumer that parks receives whatever its circuits say.

    Raises:
        StoreError: If the store is away and nothing is known.
    """
    if not consumer.pauses:
        return room
    states = [await one.gate.state() for one in consumer.needs.values() if one.gate is not None]
    if State.OPEN in states:
        return 0
    return 1 - in_hand if State.HALF_OPEN in states else room
