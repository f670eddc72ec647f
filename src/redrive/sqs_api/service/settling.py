"""DeleteMessage and ChangeMessageVisibility, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redrive.broker import Acknowledge
from redrive.sqlite.queues import Queue
from redrive.sqlite.tables import Tables
from redrive.sqs_api.calls import Refused
from redrive.sqs_api.service.handles import Held, held_by
from redrive.sqs_api.service.receiving import LONGEST_VISIBILITY
from redrive.sqs_api.service.wording import bad_value, missing

Delete = Callable[[Tables, Queue, Sequence[str]], list[Refused | None]]
_EXPIRED = "The receipt handle has expired."
_GONE = "Message does not exist or is not available for visibility timeout change."


def delete_batch(tables: Tables, queue: Queue, handles: Sequence[str]) -> list[Refused | None]:
    """As `delete`; a batch tells of an expired handle in other words. Source: answers quoted to SDKs' maintainers."""
    return [
        Refused("ReceiptHandleIsInvalid", _EXPIRED.removesuffix("."))
        if one is not None and one.message.endswith(_EXPIRED)
        else one
        for one in delete(tables, queue, handles)
    ]


def delete(tables: Tables, queue: Queue, handles: Sequence[str]) -> list[Refused | None]:
    """Delete what is held with these; None where it is gone, by this or before.

    On a standard queue a handle whose message somebody else has by now deletes nothing and is no error; on a FIFO queue
    a handle counts for as long as its lease. Source: Amazon SQS API reference, DeleteMessage.
    """
    answers: list[Refused | None] = []
    counting: list[Held] = []
    for handle in handles:
        try:
            held = held_by(handle, queue)
            _refuse_expired(tables, queue, held, handle)
        except Refused as refused:
            answers.append(refused)
        else:
            counting.append(held)
            answers.append(None)
    tables.engine.settle([Acknowledge(delivery=one.delivery) for one in counting], tables.now_ms)
    return answers


def change(tables: Tables, queue: Queue, requests: Sequence[Mapping[str, Any]]) -> list[Refused | None]:
    """Let the leases end some seconds from now; None where that was done."""
    return [_changed(tables, queue, one) for one in requests]


def _refuse_expired(tables: Tables, queue: Queue, held: Held, handle: str) -> None:
    if not queue.fifo:
        return
    ends_ms = tables.engine.lease_ends_ms(held.delivery)
    is_over = tables.engine.is_there(held.delivery) if ends_ms is None else ends_ms <= tables.now_ms
    if is_over:
        raise bad_value("ReceiptHandle", handle, _EXPIRED)


def _changed(tables: Tables, queue: Queue, request: Mapping[str, Any]) -> Refused | None:
    seconds = request.get("VisibilityTimeout")
    if seconds is None:
        return missing("VisibilityTimeout")
    if not 0 <= seconds <= LONGEST_VISIBILITY:
        return bad_value("VisibilityTimeout", seconds, "Must be between 0 and 43200, if provided.")
    try:
        held = held_by(request["ReceiptHandle"], queue)
    except Refused as refused:
        return refused
    problem = _unchangeable(tables, queue, held, request)
    if problem is None:
        tables.engine.change_visibility(held.delivery, seconds, tables.now_ms)
    return problem


def _unchangeable(tables: Tables, queue: Queue, held: Held, request: Mapping[str, Any]) -> Refused | None:
    """Why a lease cannot be changed. One that has ended stays ended, which is no error on a standard queue.

    Source: recorded answers; Amazon SQS was never seen to answer MessageNotInflight.
    """
    seconds, handle = request["VisibilityTimeout"], request["ReceiptHandle"]
    ends_ms = tables.engine.lease_ends_ms(held.delivery)
    if ends_ms is None:
        return bad_value("ReceiptHandle", handle, _GONE)
    if ends_ms <= tables.now_ms:
        return bad_value("ReceiptHandle", handle, _EXPIRED) if queue.fifo else None
    if seconds and tables.now_ms + seconds * 1000 > held.received_at_ms + LONGEST_VISIBILITY * 1000:
        reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
        return bad_value("VisibilityTimeout", seconds, reason)
    return None
