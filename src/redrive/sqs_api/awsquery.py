"""The Query protocol: the operation and its parameters in a form or a query string, the answer as XML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redrive.sqs_api import xml
from redrive.sqs_api.calls import Refused
from redrive.sqs_api.contract import Contract, Operation, Request
from redrive.sqs_api.forms import tree
from redrive.sqs_api.responses import Response, response

_KIND = b"text/xml"
_OF_NO_QUEUE = frozenset({"CreateQueue", "ListQueues"})
"""What cannot be asked of a queue's URL. Source: recorded answers of SQS."""


class AwsQuery:
    """The protocol of older SDKs, and of curl."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    def operation(self, action: str) -> Operation:
        """The operation that `Action` names.

        Raises:
            Refused: If there is none.
        """
        found = self._contract.operations.get(action)
        if found is None:
            raise _no_action(action)
        return found

    def request(self, operation: Operation, given: dict[str, str], path: str, base_url: str) -> Request:
        """What the parameters say; a queue that they do not name is the one at whose URL the client calls.

        Raises:
            Refused: If it is not what the operation takes.
        """
        if path != "/" and operation.name in _OF_NO_QUEUE:
            raise _no_action(operation.name)
        document = operation.form(tree(given))
        if isinstance(document, dict) and "QueueUrl" not in document and path != "/":
            document["QueueUrl"] = base_url + path
        return operation.read(document)

    def answer(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> Response:
        """The response to a call that went through."""
        written = None if operation.result is None else operation.result(result)
        body = xml.answer(operation.name, written, request_id)
        return response(200, _KIND, body, (b"x-amzn-requestid", request_id.encode()))

    def refusal(self, refused: Refused, request_id: str) -> Response:
        """The response to one that did not."""
        named = self._contract.naming(refused.code)
        body = xml.error(named.fault, named.query, refused.message, request_id)
        return response(named.status, _KIND, body, (b"x-amzn-requestid", request_id.encode()))


def _no_action(action: str) -> Refused:
    return Refused("InvalidAction", f"The action {action} is not valid for this endpoint.")


def unknown() -> Response:
    """What SQS says where no action is named. Source: recorded answers of SQS."""
    return response(404, _KIND, b"<UnknownOperationException/>\n")
