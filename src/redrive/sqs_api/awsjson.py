"""AWS JSON 1.0: the operation in a header, request and answer as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from redrive.sqs_api.calls import Refused
from redrive.sqs_api.contract import Contract, Operation, Request
from redrive.sqs_api.responses import Response, response, visible

_KIND = b"application/x-amz-json-1.0"
_SURROGATES = (b"\\ud", b"\\uD")


class AwsJson:
    """The protocol of today's SDKs."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        prefix = contract.target_prefix
        self._targets = {f"{prefix}.{name}".encode(): one for name, one in contract.operations.items()}

    def operation(self, target: bytes) -> Operation:
        """The operation that `X-Amz-Target` names.

        Raises:
            Refused: If there is none.
        """
        found = self._targets.get(target)
        if found is None:
            raise Refused("InvalidAction", f"The operation {target.decode('latin-1')!r} is not known.")
        return found

    def request(self, operation: Operation, body: bytes) -> Request:
        """What the body says.

        Raises:
            Refused: If it is not JSON, or not what the operation takes.
        """
        return operation.read(_parsed(body) if body else {})

    def answer(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> Response:
        """The response to a call that went through; some operations have nothing to say."""
        body = b"" if operation.result is None else _encode(result).encode()
        return response(200, _KIND, body, (b"x-amzn-requestid", request_id.encode()))

    def refusal(self, refused: Refused, request_id: str) -> Response:
        """The response to one that did not."""
        named = self._contract.naming(refused.code)
        body = _encode({"__type": named.type, "message": refused.message}).encode()
        return response(
            named.status,
            _KIND,
            body,
            (b"x-amzn-requestid", request_id.encode()),
            (b"x-amzn-errortype", visible(named.name)),
            (b"x-amzn-query-error", visible(f"{named.query};{named.fault}")),
        )


def _parsed(body: bytes) -> object:
    try:
        found: object = json.loads(body.decode())
        if any(half in body for half in _SURROGATES):
            json.dumps(found, ensure_ascii=False).encode()  # half of a pair is no text: nobody could store it
    except UnicodeError:
        raise Refused("MalformedInput", "The body is not UTF-8 text.") from None
    except (ValueError, RecursionError):
        raise Refused("MalformedInput", "The body is not JSON.") from None
    return found


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no value of SQS's model")


_encode = json.JSONEncoder(separators=(",", ":"), default=_base64).encode
