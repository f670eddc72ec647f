"""What Amazon SQS answers, in redrive's words."""

from __future__ import annotations

import pickle
import re

import pytest

from redrive.brokers.sqs.failures import (
    CredentialsRefused,
    LeaseTooLong,
    NotNow,
    PermissionMissing,
    Place,
    Refused,
    Throttled,
    is_stale,
)
from redrive.errors import BrokerError, OutcomeUnknown, QueueNotFound

_PLACE = Place("sqs://eu-central-1")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("QueueDoesNotExist", 400, QueueNotFound),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, QueueNotFound),
        ("com.amazonaws.sqs#QueueDoesNotExist", 400, QueueNotFound),
        ("RequestThrottled", 403, Throttled),
        ("ThrottlingException", 400, Throttled),
        ("Whatever", 429, Throttled),
        ("ServiceUnavailable", 503, Throttled),
        ("ExpiredToken", 403, CredentialsRefused),
        ("InvalidSignatureException", 403, CredentialsRefused),
        ("AccessDenied", 403, PermissionMissing),
        ("NotAuthorized", 400, PermissionMissing),
        ("KmsAccessDenied", 400, PermissionMissing),
        ("KMS.AccessDeniedException", 400, PermissionMissing),
        ("KMS.ThrottlingException", 400, Throttled),
        ("KmsDisabled", 400, NotNow),
        ("KMS.DisabledException", 400, NotNow),
        ("KmsInvalidState", 400, NotNow),
        ("KMS.InvalidStateException", 400, NotNow),
        ("KmsOptInRequired", 403, NotNow),
        ("OptInRequired", 403, NotNow),
        ("QueueDeletedRecently", 400, NotNow),
        ("AWS.SimpleQueueService.QueueDeletedRecently", 400, NotNow),
        ("AWS.SimpleQueueService.PurgeQueueInProgress", 403, NotNow),
        ("InternalError", 500, OutcomeUnknown),
        ("", 502, OutcomeUnknown),
        ("InvalidParameterValue", 400, Refused),
        ("", 400, Refused),
    ],
)
def test_each_answer_says_whose_fault_it_is(code: str, status: int, kind: type[BrokerError]) -> None:
    """And whether anything may have happened; each survives pickling."""
    error = _PLACE.of_answer({"Code": code, "Message": "no"}, status, "SendMessage", "orders")
    assert type(error) is kind
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - ours
    assert (type(again), str(again), again.args) == (kind, str(error), error.args)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("KmsDisabled", "key that encrypts 'orders' cannot be used .*; enable it"),
        ("QueueDeletedRecently", "'orders' was deleted just now; wait a minute"),
        ("PurgeQueueInProgress", "'orders' was purged just now, .*; try again in 60 s"),
        ("OptInRequired", "finish the account's registration"),
    ],
)
def test_what_does_not_pass_by_itself_names_its_remedy(code: str, remedy: str) -> None:
    """The queue and what to do."""
    error = _PLACE.of_answer({"Code": code, "Message": "no"}, 400, "SendMessage", "orders")
    assert re.search(remedy, str(error))


@pytest.mark.parametrize(
    ("code", "text", "stale"),
    [
        ("ReceiptHandleIsInvalid", "The input receipt handle is invalid.", True),
        ("MessageNotInflight", "", True),
        ("InvalidParameterValue", "Value x … is invalid. Reason: The receipt handle has expired.", True),
        ("InvalidParameterValue", "Message does not exist or is not available for visibility timeout change.", True),
        ("InvalidParameterValue", "Reason: something else", False),
    ],
)
def test_a_receipt_that_is_good_no_more_is_known(code: str, text: str, *, stale: bool) -> None:
    """By its code, or by Amazon's words where the code says nothing."""
    error = _PLACE.of_answer({"Code": code, "Message": text}, 400, "DeleteMessage", "orders")
    assert is_stale(error) is stale


def test_a_lease_that_is_too_long_is_no_stale_receipt() -> None:
    """The message is still in the same hands."""
    text = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    error = _PLACE.of_answer({"Code": "InvalidParameterValue", "Message": text}, 400, "ChangeMessageVisibility", "q")
    assert isinstance(error, LeaseTooLong)
    assert not is_stale(error)


def test_no_signed_address_is_shown() -> None:
    """What stands behind a question mark may be a signature."""
    error = _PLACE.of_exception(OSError("cannot connect to https://x/?X-Amz-Signature=abc"), "SendMessage")
    assert "abc" not in str(error)
