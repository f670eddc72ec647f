"""What stands between the wire and the service: one call, whoever made it, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

JSON, QUERY = "json", "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and how this endpoint looks from there."""

    account: str
    """The account of all queues here: twelve digits."""
    region: str
    """The region of all queues here, as in their ARNs."""
    base_url: str
    """Where the client found this endpoint, `http://host:port`; a queue's URL is `{base_url}/{account}/{name}`."""
    protocol: Literal["json", "query"]
    """`json` is AWS JSON 1.0, `query` the form protocol with answers in XML."""
    access_key: str | None
    """The id of the key that the request names; whether its signature was checked is the endpoint's setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """What `/metrics` tells of one queue."""

    queue: str
    """Its name."""
    visible: int
    """Messages that can be received: `ApproximateNumberOfMessages`."""
    not_visible: int
    """Messages in flight: `ApproximateNumberOfMessagesNotVisible`."""
    delayed: int
    """Messages that wait for their time: `ApproximateNumberOfMessagesDelayed`."""
    sent: int | None = None
    """Messages sent since the endpoint started; None where nobody counts."""
    received: int | None = None
    """Messages received since then, each delivery counted; None where nobody counts."""
    deleted: int | None = None
    """Messages deleted since then; None where nobody counts."""


class Refused(Exception):
    """A request is answered with an error of SQS."""

    def __init__(self, code: str, message: str) -> None:
        """State the facts.

        Args:
            code: an error shape of SQS's model (`QueueDoesNotExist`), or one of AWS's common errors
                (`InvalidParameterValue`, `MissingParameter`, `AccessDenied`, …) by its Query name.
            message: for people, in AWS's words where it has some.
        """
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Service(Protocol):
    """What stands behind the wire."""

    async def call(self, operation: str, request: Mapping[str, Any], caller: Caller) -> Mapping[str, Any]:
        """Do one operation of SQS.

        A ReceiveMessage whose client goes away, or that waits while the endpoint stops, is cancelled: whatever it has
        leased until then has to be given back.

        Args:
            operation: its name in SQS's model, such as `SendMessageBatch`.
            request: as the model shapes it: str, int, bool, bytes, list, dict. Required members are there, types are
                checked, integers fit their 32 or 64 bits, text can be encoded; members unknown to the model are
                gone. A batch without `Entries` has an empty list.
            caller: who asks.

        Returns:
            The answer, as the model shapes it; members that are None must be left out.

        Raises:
            Refused: If SQS would refuse it.
        """
        ...

    async def metrics(self) -> Sequence[QueueCounts]:
        """Count each queue's messages."""
        ...
