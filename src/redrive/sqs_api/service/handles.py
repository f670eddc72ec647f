"""Handles: what a client holds to settle a message, or to cancel a move. Opaque to it, and sealed in base64.

A receipt handle says which queue and which receipt, what group the message is of, and when it was received, from which
the twelve hours count. None of it gives anybody a right: only the receipt's random part does.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import NamedTuple

from redrive.message import Delivery, Message
from redrive.sqlite.queues import Queue
from redrive.sqs_api.calls import Refused

_PARTS = 4


class Held(NamedTuple):
    """What a receipt handle says."""

    delivery: Delivery
    received_at_ms: int


def receipt_handle(queue: Queue, delivery: Delivery, now_ms: int) -> str:
    """The handle of a delivery that is handed out now."""
    text = f"{queue.id} {now_ms} {delivery.receipt} {delivery.message.group or ''}"
    return base64.b64encode(text.encode()).decode()


def held_by(handle: str, queue: Queue) -> Held:
    """What a handle stands for.

    Raises:
        Refused: If it is none of this queue.
    """
    try:
        number, received_at_ms, receipt, group = _open(handle).split(" ", _PARTS - 1)
        of_queue, received = int(number), int(received_at_ms)
    except ValueError:
        problem = f'The input receipt handle "{handle}" is not a valid receipt handle.'
        raise Refused("ReceiptHandleIsInvalid", problem) from None
    if of_queue != queue.id:
        raise Refused("ReceiptHandleIsInvalid", f'The receipt handle "{handle}" is not valid for this queue.')
    message = Message(id="", body=b"", sent_at_ms=0, group=group or None)
    return Held(Delivery(message=message, queue=queue.name, receipt=receipt, receive_count=1), received)


def task_handle(task: str, source_arn: str) -> str:
    """The handle of a message move task."""
    return base64.b64encode(json.dumps({"taskId": task, "sourceArn": source_arn}).encode()).decode()


def task_of(handle: str) -> tuple[str, str]:
    """Id of the task and ARN of its source.

    Raises:
        Refused: If it is no handle of a task.
    """
    try:
        found = json.loads(_open(handle))
        return str(found["taskId"]), str(found["sourceArn"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused("InvalidParameterValue", "Value for parameter TaskHandle is invalid.") from None


def _open(handle: str) -> str:
    try:
        return base64.b64decode(handle.encode(), validate=True).decode()
    except binascii.Error as error:
        raise ValueError(str(error)) from None
