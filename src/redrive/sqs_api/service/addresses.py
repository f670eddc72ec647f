"""How queues are named on the wire: URLs, ARNs, and `.fifo` at the end of a FIFO queue's name.

The engine's `orders` is `orders` on the wire where it is a standard queue, and `orders.fifo` where it is a FIFO queue.
So one name cannot be both, as it can on Amazon SQS.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from redrive.errors import QueueNotFound
from redrive.sqlite.queues import Queue
from redrive.sqlite.tables import Tables
from redrive.sqs_api.calls import Caller, Refused

FIFO = ".fifo"
_ARN = re.compile(r"arn:aws[a-z-]*:sqs:([^:]*):([^:]*):([^:]+)")
_PATH = re.compile(r"/([^/]+)/([^/]+)/?")
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.fifo)?")


def wire_name(name: str, *, fifo: bool) -> str:
    """What a queue of the engine is called on the wire."""
    return name + FIFO if fifo else name


def url_of(name: str, caller: Caller) -> str:
    """The URL of a queue that is called like this on the wire."""
    return f"{caller.base_url}/{caller.account}/{name}"


def arn_of(name: str, caller: Caller) -> str:
    """The ARN of a queue that is called like this on the wire."""
    return f"arn:aws:sqs:{caller.region}:{caller.account}:{name}"


def name_in_url(url: str, caller: Caller) -> str:
    """What the queue of a URL is called on the wire. Whatever host the URL names: it was asked here.

    The bare name is taken too, as Amazon SQS takes it. Source: recorded answers.

    Raises:
        Refused: If it is no URL of a queue, or one of another account.
    """
    if _NAME.fullmatch(url):
        return url
    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    found = _PATH.fullmatch(path)
    if found is None:
        raise Refused("InvalidAddress", f"The address {url} is not valid for this endpoint.")
    if found[1] != caller.account:
        raise no_queue()
    return found[2]


def is_arn(arn: object) -> bool:
    """Whether this is the ARN of a queue, whoever's it is."""
    return isinstance(arn, str) and _ARN.fullmatch(arn) is not None


def name_in_arn(arn: str, caller: Caller) -> str | None:
    """What the queue of an ARN is called on the wire; None: it is no queue of this account and region."""
    found = _ARN.fullmatch(arn)
    if found is None or (found[1], found[2]) != (caller.region, caller.account):
        return None
    return found[3]


def queue_called(tables: Tables, name: str) -> Queue:
    """The queue that is called like this on the wire.

    Raises:
        Refused: If there is none.
    """
    try:
        queue = tables.engine.queue_table.named(name.removesuffix(FIFO))
    except QueueNotFound:
        raise no_queue() from None
    if bool(queue.fifo) is not name.endswith(FIFO):
        raise no_queue()
    return queue


def no_queue() -> Refused:
    """The queue is not there."""
    return Refused("QueueDoesNotExist", "The specified queue does not exist.")
