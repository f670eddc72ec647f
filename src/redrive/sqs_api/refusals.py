"""An error of SQS, as each protocol names it.

SQS had the Query protocol first. A client that speaks JSON finds today's name in the body and the former one in a
header, and SDKs show the former: scripts compare with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SQS, COMMON = "com.amazonaws.sqs", "com.amazon.coral.service"
SENDER, RECEIVER = "Sender", "Receiver"
_PREFIX = "AWS.SimpleQueueService."
_BAD_REQUEST, _SERVER_ERROR = 400, 500

# Source: the model of SQS as botocore shipped it for the Query protocol; the one for JSON no longer says it.
_FORMER: Mapping[str, str] = MappingProxyType(
    {
        "BatchEntryIdsNotDistinct": _PREFIX + "BatchEntryIdsNotDistinct",
        "BatchRequestTooLong": _PREFIX + "BatchRequestTooLong",
        "EmptyBatchRequest": _PREFIX + "EmptyBatchRequest",
        "InvalidBatchEntryId": _PREFIX + "InvalidBatchEntryId",
        "KmsAccessDenied": "KMS.AccessDeniedException",
        "KmsDisabled": "KMS.DisabledException",
        "KmsInvalidKeyUsage": "KMS.InvalidKeyUsageException",
        "KmsInvalidState": "KMS.InvalidStateException",
        "KmsNotFound": "KMS.NotFoundException",
        "KmsOptInRequired": "KMS.OptInRequired",
        "KmsThrottled": "KMS.ThrottlingException",
        "MessageNotInflight": _PREFIX + "MessageNotInflight",
        "PurgeQueueInProgress": _PREFIX + "PurgeQueueInProgress",
        "QueueDeletedRecently": _PREFIX + "QueueDeletedRecently",
        "QueueDoesNotExist": _PREFIX + "NonExistentQueue",
        "QueueNameExists": "QueueAlreadyExists",
        "TooManyEntriesInBatchRequest": _PREFIX + "TooManyEntriesInBatchRequest",
        "UnsupportedOperation": _PREFIX + "UnsupportedOperation",
    }
)
# Source: Amazon SQS API reference, "Common Errors", and the names under which JSON services of AWS answer them.
_TODAY: Mapping[str, str] = MappingProxyType(
    {
        "AccessDenied": "AccessDeniedException",
        "IncompleteSignature": "IncompleteSignatureException",
        "InvalidAction": "UnknownOperationException",
        "InvalidClientTokenId": "UnrecognizedClientException",
        "InvalidParameterCombination": "InvalidParameterCombinationException",
        "InvalidParameterValue": "InvalidParameterValueException",
        "MalformedInput": "SerializationException",
        "MissingParameter": "MissingRequiredParameterException",
        "SignatureDoesNotMatch": "InvalidSignatureException",
        "Throttling": "ThrottlingException",
    }
)
# Source: the traits of the errors in SQS's public model; common errors as in the API reference.
_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "AccessDenied": 403,
        "InternalFailure": 500,
        "InvalidAddress": 404,
        "InvalidClientTokenId": 403,
        "InvalidSecurity": 403,
        "KmsOptInRequired": 403,
        "OverLimit": 403,
        "PurgeQueueInProgress": 403,
        "ReceiptHandleIsInvalid": 404,
        "RequestEntityTooLarge": 413,
        "RequestThrottled": 403,
        "RequestTimeout": 408,
        "ResourceNotFoundException": 404,
        "ServiceUnavailable": 503,
        "SignatureDoesNotMatch": 403,
    }
)


@dataclass(frozen=True, slots=True)
class Naming:
    """What one error is called."""

    status: int
    """Of the HTTP response."""
    fault: str
    """`Sender` or `Receiver`: whose it is."""
    name: str
    """Without its namespace, as today."""
    type: str
    """With its namespace: `__type` in JSON."""
    query: str
    """As the Query protocol calls it."""


def naming(code: str, modelled: frozenset[str]) -> Naming:
    """All names of an error.

    Args:
        code: as in `Refused`.
        modelled: the error shapes of the model.
    """
    status = _STATUS.get(code, _BAD_REQUEST)
    name = _TODAY.get(code, code)
    return Naming(
        status=status,
        fault=SENDER if status < _SERVER_ERROR else RECEIVER,
        name=name,
        type=f"{SQS if code in modelled else COMMON}#{name}",
        query=_FORMER.get(code, code),
    )


def query_code(code: str) -> str:
    """What the Query protocol calls an error, which is also its `Code` in the answer to a batch."""
    return _FORMER.get(code, code)
