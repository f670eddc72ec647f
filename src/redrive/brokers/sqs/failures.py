"""What went wrong at Amazon SQS, in redrive's words: whose fault it is, and whether anything may have happened.

Source: Amazon SQS API reference, "Common Errors" and the errors of each action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from redrive.errors import (
    BrokerError,
    BrokerUnavailable,
    DeclarationError,
    LimitExceeded,
    NotPermitted,
    OutcomeUnknown,
    QueueNotFound,
    RedriveError,
)

_NOT_FOUND = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"})
_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "ServiceUnavailable",
        "SlowDown",
        "OverLimit",
        "AWS.SimpleQueueService.OverLimit",
        "KmsThrottled",
        "KMS.ThrottlingException",
    }
)
_EXPIRED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "TokenRefreshRequired",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "InvalidSecurity",
        "SignatureDoesNotMatch",
        "AuthFailure",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "InvalidAccessKeyId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
    }
)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "NotAuthorized",
        "KmsAccessDenied",
        "KMS.AccessDeniedException",
    }
)
_KEY_UNUSABLE = frozenset(
    {
        "KmsDisabled",
        "KMS.DisabledException",
        "KmsInvalidState",
        "KMS.InvalidStateException",
        "KmsInvalidKeyUsage",
        "KMS.InvalidKeyUsageException",
        "KmsNotFound",
        "KMS.NotFoundException",
        "KmsOptInRequired",
        "KMS.OptInRequired",
    }
)
_REMEDIES = {
    "OptInRequired": "its account has no subscription to it (OptInRequired); finish the account's registration",
    "QueueDeletedRecently": "a queue {queue!r} was deleted just now; wait a minute before it is made again",
    "PurgeQueueInProgress": "queue {queue!r} was purged just now, and can be once a minute; try again in 60 s",
}
"""What passes, but not by itself within seconds, by the end of its code."""
_ABOUT_MESSAGE = frozenset(
    {
        "InvalidMessageContents",
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "InvalidAttributeName",
        "InvalidAttributeValue",
        "MissingParameter",
        "BatchRequestTooLong",
        "UnsupportedOperation",
    }
)
"""Codes, by their end, that a send is refused with for what is in the message."""
_STALE = frozenset({"ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"})
_STALE_TEXT = re.compile(r"receipt handle|does not exist or is not available for visibility timeout", re.IGNORECASE)
_TOO_LONG = re.compile(r"Total\s+VisibilityTimeout", re.IGNORECASE)
_ACTION = re.compile(r"perform: ([A-Za-z0-9-]+:[A-Za-z]+)")
_REMOVES = "DeleteMessage"
_SERVER_FAULT = 500
_TOO_MANY = 429

_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "MetadataRetrievalError",
    }
)
"""Names of botocore's exceptions for credentials that were not to be had."""
UNSENT = _NO_CREDENTIALS | {"EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"}
"""Names of botocore's exceptions after which no request had left."""


class NotNow(BrokerUnavailable):
    """Nothing happened, and asking again within seconds would change nothing."""


class CredentialsRefused(BrokerUnavailable):
    """The credentials were not accepted, or not to be had; nothing happened. They are looked for anew."""


class PermissionMissing(NotPermitted, NotNow):
    """The credentials may not do it; nothing happened. Once they may, it works."""


class Throttled(BrokerUnavailable):
    """Asked too often; nothing happened."""


class LeaseTooLong(LimitExceeded):
    """A message would be in one pair of hands for more than twelve hours in all.

    Source: Amazon SQS, ChangeMessageVisibility: "Total VisibilityTimeout … is beyond the limit [43200 seconds]".
    """


class Refused(BrokerError):
    """Amazon SQS refused a request for what is in it."""

    def __init__(self, action: str, queue: str, code: str, text: str) -> None:
        super().__init__(action, queue, code, text)
        self.action, self.queue, self.code, self.text = action, queue, code, text

    @property
    def is_about_message(self) -> bool:
        """Whether another message would have been taken."""
        return self.code.rpartition(".")[2] in _ABOUT_MESSAGE

    def __str__(self) -> str:
        return f"Amazon SQS refused {self.action} on queue {self.queue!r}: {self.text or self.code} ({self.code})"


class Place:
    """Whom a failure is told about."""

    def __init__(self, address: str) -> None:
        self.address = address

    def of_answer(self, error: Mapping[str, Any], status: int, action: str, queue: str) -> BrokerError:
        """An error that Amazon SQS answered with, for a request or for one entry of it."""
        code = str(error.get("Code") or "").rpartition("#")[2]
        text = str(error.get("Message") or "")
        if known := self._of_code(code, text, action, queue):
            return known
        if status == _TOO_MANY:
            return Throttled(self.address, f"it is asked too often ({code or status})")
        if status >= _SERVER_FAULT:
            return OutcomeUnknown(self.address, f"it answered {action} with {status} {code}".rstrip())
        return _refusal(action, queue, code, text)

    def _of_code(self, code: str, text: str, action: str, queue: str) -> BrokerError | None:
        if code in _NOT_FOUND:
            return QueueNotFound(queue)
        if code in _DENIED:
            named = _ACTION.search(text)
            asked = action.removesuffix("Batch")  # policies know no others
            removing = asked == _REMOVES
            return PermissionMissing(self.address, named[1] if named else f"sqs:{asked}", queue, removing)
        if code in _EXPIRED:
            problem = f"its credentials are not accepted ({code}); renew them or set the clock"
            return CredentialsRefused(self.address, problem)
        if code in _THROTTLED:
            return Throttled(self.address, f"it is asked too often ({code})")
        standing = _standing(code, queue)
        return None if standing is None else NotNow(self.address, standing)

    def of_opening(self, error: Exception) -> RedriveError:
        """No client could be made: its credentials cannot be had now, or the configuration is wrong."""
        if type(error).__name__ in UNSENT:
            return BrokerUnavailable(self.address, _short(error))
        remedy = "mend AWS's configuration: its environment variables and files"
        return DeclarationError(f"a client for {self.address}", f"cannot be made: {_short(error)}", remedy)

    def of_exception(self, error: Exception, action: str) -> BrokerError:
        """A request that got no answer."""
        if isinstance(error, BrokerError):
            return error
        name = type(error).__name__
        if name in _NO_CREDENTIALS:
            return CredentialsRefused(self.address, _short(error))
        if name in UNSENT:
            return BrokerUnavailable(self.address, _short(error))
        return OutcomeUnknown(self.address, f"no answer to {action}: {_short(error)}")


def is_stale(error: BrokerError) -> bool:
    """Whether it is about a receipt that is good no more."""
    if not isinstance(error, Refused):
        return False
    return error.code in _STALE or bool(_STALE_TEXT.search(error.text) and not _TOO_LONG.search(error.text))


def _standing(code: str, queue: str) -> str | None:
    """What is in the way until somebody or some time removes it."""
    if code in _KEY_UNUSABLE:
        return f"the key that encrypts {queue!r} cannot be used ({code}); enable it in AWS KMS, or name another"
    found = _REMEDIES.get(code.rpartition(".")[2])
    return None if found is None else found.format(queue=queue)


def _refusal(action: str, queue: str, code: str, text: str) -> BrokerError:
    if _TOO_LONG.search(text):
        return LeaseTooLong("lease", text, "at most 43200 seconds since the receive")
    return Refused(action, queue, code or "unknown", text)


def _short(error: Exception) -> str:
    """One line, without the address of a signed request."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"\?[^\s\"']*", "", text)[:300]
