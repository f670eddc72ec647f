"""What a saga sends: with the step that sent it in one write, then on its way, then out of the journal.

    a step, or an undo, is done     what it sent is in the journal with its result, or is dropped with its failure
    the function has returned       likewise, with the end
    the journal is written          then it leaves, under ids that are the same after every crash
    it has left                     the next write takes it out

A crash in between sends it again, as the same messages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from redrive.errors import NotKept
from redrive.runtime import Runtime
from redrive.sagas.journal import LARGEST_RESULT, Journal
from redrive.sagas.record import Record
from redrive.unsent import Unsent, leave


def keep(journal: Journal, unsent: Sequence[Unsent], what: str) -> None:
    """Put what was sent into the journal, with the write that says why.

    Raises:
        NotKept: If it is over 32 KB.
    """
    if not unsent:
        return
    documents = [one.to_document() for one in unsent]
    if (size := len(json.dumps(documents))) > LARGEST_RESULT:
        problem = f"has {size} bytes, over the limit of {LARGEST_RESULT}"
        raise NotKept(f"what {what} sends", problem, "keep contents elsewhere and send their keys")
    journal.unsent += documents


async def depart(runtime: Runtime, record: Record) -> None:
    """Send what the journal, as written, has unsent; the next write takes it out.

    Raises:
        BrokerError: If not all of it was sent; it stays in the journal.
        StoreError: If a long delay cannot be kept.
    """
    if record.journal.unsent:
        unsent = [Unsent.from_document(one) for one in record.journal.unsent]
        await leave(runtime, unsent)
        record.journal.unsent = []
        record.changed()
