"""Order in hand: of one group of a FIFO queue, one message is handled at a time, and none after one that comes back."""

from __future__ import annotations

from collections import deque

from redrive.calling import Held


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
