"""What all batches have in common: up to ten entries, each with an id of its own, and an answer for each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from redrive.sqs_api.calls import Refused
from redrive.sqs_api.refusals import query_code

_MOST = 10
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


def entries_of(request: Mapping[str, Any], shape: str) -> Sequence[Mapping[str, Any]]:
    """The entries of a batch; `shape` is what the model calls one.

    Raises:
        Refused: If there are none, too many, or their ids are no ids or not distinct.
    """
    entries: Sequence[Mapping[str, Any]] = request["Entries"]
    if not entries:
        raise Refused("EmptyBatchRequest", f"There should be at least one {shape} in the request.")
    if len(entries) > _MOST:
        problem = f"Maximum number of entries per request are {_MOST}. You have sent {len(entries)}."
        raise Refused("TooManyEntriesInBatchRequest", problem)
    seen: set[str] = set()
    for one in entries:
        if not _ID.fullmatch(one["Id"]):
            raise Refused(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
                "It can be at most 80 letters long.",
            )
        if one["Id"] in seen:
            raise Refused("BatchEntryIdsNotDistinct", f"Id {one['Id']} repeated.")
        seen.add(one["Id"])
    return entries


def answer(
    entries: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any] | Refused | None]
) -> dict[str, list[dict[str, Any]]]:
    """The answer to a batch: what was done and what was not, by the ids of the entries."""
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for one, result in zip(entries, results, strict=True):
        if isinstance(result, Refused):
            ours = result.code == "ServiceUnavailable"
            failure = {
                "Id": one["Id"],
                "SenderFault": not ours,
                "Code": query_code(result.code),
                "Message": result.message,
            }
            failed.append(failure)
        else:
            done.append({"Id": one["Id"], **(result or {})})
    found = {"Successful": done, "Failed": failed}
    return {name: those for name, those in found.items() if those}
