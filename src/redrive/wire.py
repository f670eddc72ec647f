"""Deliveries and settlements as JSON, for the process that runs suspects. No pickle, ever."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from redrive.broker import Acknowledge, Forward, Return, Settlement
from redrive.message import Delivery, Message, Notes


def delivery_to_json(delivery: Delivery) -> str:
    """One line."""
    message = delivery.message
    return json.dumps(
        {
            "id": message.id,
            "body": base64.b64encode(message.body).decode(),
            "sent_at_ms": message.sent_at_ms,
            "attributes": dict(message.attributes),
            "attribute_types": None if message.attribute_types is None else dict(message.attribute_types),
            "group": message.group,
            "notes": message.notes.to_json(),
            "queue": delivery.queue,
            "receipt": delivery.receipt,
            "receive_count": delivery.receive_count,
            "sequence": delivery.sequence,
        }
    )


def delivery_from_json(line: str) -> Delivery:
    """Read one line."""
    document = json.loads(line)
    message = Message(
        id=document["id"],
        body=base64.b64decode(document["body"]),
        sent_at_ms=document["sent_at_ms"],
        attributes=document["attributes"],
        attribute_types=document["attribute_types"],
        group=document["group"],
        notes=Notes.from_json(document["notes"]),
    )
    return Delivery(
        message=message,
        queue=document["queue"],
        receipt=document["receipt"],
        receive_count=document["receive_count"],
        sequence=document["sequence"],
    )


def settlement_to_json(settlement: Settlement | None) -> str:
    """One line; the delivery itself stays with whoever sent it."""
    document: dict[str, Any]
    match settlement:
        case None:
            document = {"kind": "none"}
        case Acknowledge():
            document = {"kind": "acknowledge"}
        case Return(delay=delay, notes=notes, uncounted=uncounted):
            document = {"kind": "return", "delay": delay, "noted": notes is not None, "uncounted": uncounted}
            document["notes"] = None if notes is None else notes.to_json()
        case Forward(delivery=delivery, queue=queue, message=message, delay=delay, deduplication_id=deduplication_id):
            edited = message.body != delivery.message.body
            document = {
                "kind": "forward",
                "queue": queue,
                "notes": message.notes.to_json(),
                "body": base64.b64encode(message.body).decode() if edited else None,
                "delay": delay,
                "deduplication_id": deduplication_id,
            }
    return json.dumps(document)


def settlement_from_json(line: str, delivery: Delivery) -> Settlement | None:
    """Read one line, for the delivery it is about."""
    document = json.loads(line)
    match document["kind"]:
        case "none":
            return None
        case "acknowledge":
            return Acknowledge(delivery=delivery)
        case "return":
            notes = Notes.from_json(document["notes"]) if document["noted"] else None
            return Return(delivery=delivery, delay=document["delay"], notes=notes, uncounted=document["uncounted"])
        case _:
            body = delivery.message.body if document["body"] is None else base64.b64decode(document["body"])
            return Forward(
                delivery=delivery,
                queue=document["queue"],
                message=replace(delivery.message, notes=Notes.from_json(document["notes"]), body=body),
                delay=document["delay"],
                deduplication_id=document["deduplication_id"],
            )
