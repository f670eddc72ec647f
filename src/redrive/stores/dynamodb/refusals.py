"""What DynamoDB answers when it does not do what was asked, and what that means. Pure.

Source: Amazon DynamoDB developer guide, "Error handling with DynamoDB"; API reference, "Common errors".
"""

from __future__ import annotations

import re

from redrive.stores.dynamodb.layout import Item

CONDITION_FAILED = "ConditionalCheckFailedException"
DENIED = "AccessDeniedException"
NO_TABLE = "ResourceNotFoundException"
IN_USE = "ResourceInUseException"
INVALID = "ValidationException"
FULL = "ItemCollectionSizeLimitExceededException"
PASSING = frozenset(
    {
        "LimitExceededException",  # of tables being made at once
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteConflictException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TransactionConflictException",
    }
)
"""Nothing happened, and the same call may succeed in a moment."""
CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""Who asks is not known, or not any more. Their messages may quote the request's headers and are not shown."""
_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
_LONGEST = 300


class Refusal(Exception):
    """DynamoDB said no. Never leaves this package."""

    def __init__(self, code: str, message: str, *, item: Item | None = None, doubtful: bool = False) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message
        self.item = item
        """What stands there, if a condition failed."""
        self.doubtful = doubtful
        """Whether an earlier try of the same call was not answered, and so may have happened."""


def problem_of(refusal: Refusal, operation: str) -> str:
    """What is wrong and what helps, in one sentence."""
    if refusal.code == DENIED:
        return f"{permission(refusal, operation)} is not allowed; allow it to whom these credentials belong"
    if refusal.code == NO_TABLE:
        return "its table does not exist; let declare='create' make it"
    if refusal.code in CREDENTIALS:
        return f"its credentials were refused ({refusal.code}); they are looked for anew"
    if refusal.code == FULL:
        return "10 GB stand under one partition key, which is the most; discard letters or cancel timers"
    return f"{refusal.code}: {refusal.message[:_LONGEST]}"


def permission(refusal: Refusal, operation: str) -> str:
    """The IAM action that is missing, as the refusal names it; `kms:Decrypt`, if it is about the table's key."""
    said = _ACTION.search(refusal.message)
    return said[1] if said else "dynamodb:" + "".join(word.capitalize() for word in operation.split("_"))
