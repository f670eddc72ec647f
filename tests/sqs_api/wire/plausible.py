"""Requests that a client might send: to queues that are there, with receipts that were given, and some of it wrong."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from redrive.sqs_api.names import entry_names, query_name
from tests.sqs_api.wire.test_fuzz import INPUTS, SHAPES, values

ACCOUNT, REGION = "000000000000", "us-east-1"
PREFIX = f"arn:aws:sqs:{REGION}:{ACCOUNT}:"
KEPT = {"dead": "", "dead-lines.fifo": "", "orders": "dead", "lines.fifo": "dead-lines.fifo", "sane": ""}
"""Queues that are there all the time, and their dead-letter queues; nobody is told of the last one."""
RECEIPT, TASK = "@receipt", "@task"
"""Stand for what the endpoint gave some calls before; a number is behind them."""
LARGE = {
    "@kilobyte": "a" * 1_024,
    "@body": "a" * 300_000,
    "@megabyte": "\U0001f375" * 262_144,
    "@number": "9" * 5_000,
    "@nested": "[" * 100_000,
    "@nested handle": base64.b64encode(b"[" * 90_000).decode(),
}
"""What is written short here, for Hypothesis writes out what it draws."""
NAMES = ("orders", "lines.fifo", "dead", "dead-lines.fifo", "passing", "passage.fifo", "never")
_URLS = [f"http://127.0.0.1:9324/{ACCOUNT}/{name}" for name in NAMES]
_ARNS = [f"{PREFIX}{name}" for name in NAMES]
_COUNTS = [0, 1, 2, 10, 11, 900, 901, 43_200, 43_201, -1, 2**31 - 1]
_NUMBERS = ["1", "-0", "1e400", "1e-400", "nan", "Infinity", "0x1", "1_000", "\u0663", "9" * 400, " 1", ""]
_TEXTS = ["a", "", " ", "\x00", "\ufffe", "\U0001f375", "a" * 129, "'", "%", "*", ".*", "a.*"]
_DOCUMENTS = [
    *(f'{{"deadLetterTargetArn":"{arn}","maxReceiveCount":{count}}}' for arn in _ARNS for count in ("3", '"1"', "0")),
    f'{{"deadLetterTargetArn":"{_ARNS[2]}","maxReceiveCount":1e400}}',
    f'{{"deadLetterTargetArn":"{_ARNS[2]}","maxReceiveCount":NaN}}',
    f'{{"deadLetterTargetArn":"{_ARNS[2]}","maxReceiveCount":"\u0663"}}',
    f'{{"deadLetterTargetArn":"{_ARNS[2]}","maxReceiveCount":{"9" * 500}}}',
    f'{{"deadLetterTargetArn":["{_ARNS[2]}"],"maxReceiveCount":true}}',
    f'{{"redrivePermission":"byQueue","sourceQueueArns":["{_ARNS[0]}"]}}',
    '{"redrivePermission":"byQueue","sourceQueueArns":[[]]}',
    '{"redrivePermission":"denyAll"}',
    '{"redrivePermission":{}}',
    '{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Allow","Principal":"*","Action":"sqs:*"}]}',
    '{"Version":[],"Statement":{"Sid":1,"Effect":[],"Principal":[1],"Action":[{}]}}',
    '{"Statement":[null]}',
    "",
    "null",
    "[]",
    '"\\ud800"',
    *("@nested", "@number"),
]
_SETTINGS = {
    "DelaySeconds": ["0", "0", "1", "901", "-1", *_NUMBERS],
    "MaximumMessageSize": ["1024", "1048576", "1023", *_NUMBERS],
    "MessageRetentionPeriod": ["60", "1209600", *_NUMBERS],
    "ReceiveMessageWaitTimeSeconds": ["0", "21", "-1", "\u0663", ""],
    "VisibilityTimeout": ["0", "30", "43201", *_NUMBERS],
    "Policy": _DOCUMENTS,
    "RedrivePolicy": _DOCUMENTS,
    "RedriveAllowPolicy": _DOCUMENTS,
    "FifoQueue": ["true", "false", "TRUE", ""],
    "ContentBasedDeduplication": ["true", "false", "1"],
    "DeduplicationScope": ["queue", "messageGroup", ""],
    "FifoThroughputLimit": ["perQueue", "perMessageGroupId", ""],
    "KmsMasterKeyId": ["alias/aws/sqs", ""],
    "KmsDataKeyReusePeriodSeconds": ["300", *_NUMBERS],
    "SqsManagedSseEnabled": ["true", "false", "x"],
    "QueueArn": ["a"],
    "Unknown": [""],
}
_SEEN = ["All", "QueueArn", "ApproximateNumberOfMessages", "SenderId", "AWSTraceHeader", "SequenceNumber", *_SETTINGS]


def _one_of(*those: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(those)


def _some(strategy: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=most)


_SET = st.sampled_from(sorted(_SETTINGS)).flatmap(lambda one: st.tuples(st.just(one), _one_of(*_SETTINGS[one])))
_TEXT = _one_of(*_TEXTS) | st.text(max_size=30)
_BLOB = st.binary(max_size=20).map(lambda one: base64.b64encode(one).decode()) | _one_of("", "AAA", "!")
_ATTRIBUTE = st.fixed_dictionaries(
    {"DataType": _one_of("String", "Number", "Binary", "String.a", "Number.int", "Binary.\u00e9", "Boolean", ".", "")},
    optional={
        "StringValue": _one_of(*_NUMBERS) | _TEXT,
        "BinaryValue": _BLOB,
        "StringListValues": _some(_TEXT, 2),
        "BinaryListValues": _some(_BLOB, 2),
    },
)
_PLAUSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "QueueUrl": st.sampled_from([*_URLS[:2] * 4, *_URLS, *NAMES, "http://[", "//", "/000000000000/orders/"]),
    "QueueName": _one_of(*NAMES, "a" * 81, "caf\u00e9", ".fifo", "a.fifo"),
    "QueueNamePrefix": _TEXT,
    "QueueOwnerAWSAccountId": _one_of(ACCOUNT, "1"),
    "Attributes": _some(_SET).map(dict),
    "Tags": st.dictionaries(_TEXT, _TEXT, max_size=3),
    "tags": st.dictionaries(_TEXT, _TEXT, max_size=3),
    "TagKeys": _some(_TEXT),
    "AttributeNames": _some(_one_of(*_SEEN), 3),
    "MessageSystemAttributeNames": _some(_one_of(*_SEEN), 3),
    "MessageAttributeNames": _some(_TEXT),
    "MessageAttributes": st.dictionaries(_TEXT, _ATTRIBUTE, max_size=12),
    "MessageSystemAttributes": st.dictionaries(_one_of("AWSTraceHeader", "a"), _ATTRIBUTE, max_size=2),
    "MessageBody": _TEXT | _one_of("@kilobyte", "@body", "@megabyte"),
    "MessageGroupId": _one_of("g", "h") | _TEXT,
    "MessageDeduplicationId": _one_of("d", "e") | _TEXT,
    "ReceiveRequestAttemptId": _one_of("r", "s") | _TEXT,
    "ReceiptHandle": st.integers(0, 12).map(lambda number: f"{RECEIPT}{number}")
    | st.text("0123456789 -", max_size=40).map(lambda one: base64.b64encode(one.encode()).decode())
    | _one_of(*(base64.b64encode(one).decode() for one in (b"1 2 3 4", b"1 1e3 a ", b"\xff", b"1  a ", b"9" * 500))),
    "TaskHandle": st.integers(0, 2).map(lambda number: f"{TASK}{number}")
    | _one_of(*(base64.b64encode(one).decode() for one in (b"1", b"{}", b'{"taskId":[],"sourceArn":1}')))
    | _one_of("@nested handle"),
    "SourceArn": st.sampled_from([*_ARNS[2:4] * 3, *_ARNS, "arn:aws:sqs:::a", "a"]),
    "DestinationArn": st.sampled_from([*_ARNS, "arn:aws:sqs:::a", "a"]),
    "MaxNumberOfMessagesPerSecond": _one_of(*_COUNTS, 500, 501),
    "MaxNumberOfMessages": _one_of(*_COUNTS, *[10] * 10),
    "VisibilityTimeout": _one_of(*_COUNTS),
    "DelaySeconds": _one_of(*[0] * 10, *_COUNTS),
    "MaxResults": _one_of(*_COUNTS, 1_000, 1_001),
    "NextToken": _one_of(*NAMES) | _TEXT,
    "WaitTimeSeconds": _one_of(0, -1, 21),
    "Id": _one_of(*"abcdefghijk", *_TEXTS),
    "Label": _one_of("a", "b") | _TEXT,
    "AWSAccountIds": _some(_one_of(ACCOUNT, "123456789012", "1", ""), 2),
    "Actions": _some(_one_of("SendMessage", "*", "Nothing", ""), 2),
}


_GOOD: dict[str, st.SearchStrategy[Any]] = {
    **_PLAUSIBLE,
    "QueueUrl": _one_of(*_URLS[:2] * 3, *_URLS[2:4]),
    "QueueName": _one_of("passing", "passage.fifo", "passed"),
    "QueueNamePrefix": _one_of("", "pass"),
    "QueueOwnerAWSAccountId": st.just(ACCOUNT),
    "Attributes": _some(st.sampled_from(sorted(_SETTINGS)).map(lambda one: (one, _SETTINGS[one][0])), 2).map(dict),
    "Tags": _one_of({"a": "b"}, {"a": "", "c": "d"}),
    "tags": _one_of({"a": "b"}, {"a": "", "c": "d"}),
    "TagKeys": _one_of(["a"], ["a", "c"]),
    "AttributeNames": _one_of(["All"], []),
    "MessageSystemAttributeNames": _one_of(["All"], []),
    "MessageAttributes": _one_of(
        {},
        {"a": {"DataType": "String", "StringValue": "b"}, "n": {"DataType": "Number", "StringValue": "-1.50"}},
        {"a.b": {"DataType": "Binary.c", "BinaryValue": "AAA="}},
    ),
    "MessageSystemAttributes": st.just({"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}}),
    "MessageBody": st.text("abc<&\U0001f375", min_size=1, max_size=9) | _one_of("@kilobyte", "@body"),
    "MessageGroupId": _one_of("g", "h"),
    "MessageDeduplicationId": st.integers(0, 1_000).map(str),
    "ReceiveRequestAttemptId": _one_of("r", "s"),
    "ReceiptHandle": st.integers(0, 9).map(lambda number: f"{RECEIPT}{number}"),
    "TaskHandle": st.just(f"{TASK}0"),
    "SourceArn": st.sampled_from(_ARNS[2:4]),
    "DestinationArn": st.sampled_from(_ARNS[:1]),
    "MaxNumberOfMessagesPerSecond": _one_of(1, 500),
    "MaxNumberOfMessages": _one_of(1, 10),
    "VisibilityTimeout": _one_of(0, 1, 30, 43_200),
    "DelaySeconds": _one_of(0, 0, 900),
    "MaxResults": _one_of(1, 10),
    "WaitTimeSeconds": st.just(0),
    "Label": _one_of("a", "b"),
    "AWSAccountIds": st.just(["123456789012"]),
    "Actions": _one_of(["SendMessage"], ["*"]),
}
_BY_KIND = {"MessageDeduplicationId", "ReceiveRequestAttemptId"}
"""What a FIFO queue takes and another does not."""


def _good(operation: str, name: str) -> st.SearchStrategy[dict[str, Any]]:
    """A request, or an entry of a batch, that would be done if what it names is there."""
    members = {one: _good_member(operation, one, member["shape"]) for one, member in SHAPES[name]["members"].items()}
    required = {one: members.pop(one) for one in SHAPES[name].get("required", ())}
    return st.fixed_dictionaries(required, optional=members).map(_of_one_kind)


def _good_member(operation: str, name: str, shape: str) -> st.SearchStrategy[Any]:
    if name == "Entries":
        entry = _good(operation, SHAPES[shape]["member"]["shape"])
        return st.lists(entry, min_size=1, max_size=10, unique_by=lambda one: one["Id"])
    if name == "Id":
        return st.sampled_from("abcdefghijklmnopqrst")
    return _GOOD[name]


def _of_one_kind(request: dict[str, Any]) -> dict[str, Any]:
    """With what its queue's kind needs and without what it refuses, in the entries too."""
    if "QueueUrl" not in request:
        return request
    fifo = request["QueueUrl"].endswith(".fifo")
    found = {one: value for one, value in request.items() if not _is_for_the_other_kind(one, fifo=fifo)}
    if "MessageBody" in request and fifo:
        found |= {"MessageGroupId": "g", "MessageDeduplicationId": request.get("MessageDeduplicationId", "d")}
    if "Entries" in request:
        entries = [_of_one_kind({**one, "QueueUrl": request["QueueUrl"]}) for one in request["Entries"]]
        found["Entries"] = [{name: value for name, value in one.items() if name != "QueueUrl"} for one in entries]
    return found


def _is_for_the_other_kind(member: str, *, fifo: bool) -> bool:
    return member == "DelaySeconds" if fifo else member in _BY_KIND


def _odd(operation: str, name: str) -> st.SearchStrategy[dict[str, Any]]:
    """A good request with one member, its own or an entry's, that is not."""

    def spoilt(drawn: tuple[dict[str, Any], str, int]) -> st.SearchStrategy[dict[str, Any]]:
        request, member, number = drawn
        entries = request.get("Entries")
        if entries and member == "Entries":
            inner = SHAPES[SHAPES[SHAPES[name]["members"][member]["shape"]]["member"]["shape"]]["members"]
            which = number % len(entries)
            return st.sampled_from(sorted(inner)).flatmap(
                lambda one: _bad(one, inner[one]["shape"]).map(
                    lambda bad: {
                        **request,
                        "Entries": [*entries[:which], {**entries[which], one: bad}, *entries[which + 1 :]],
                    }
                )
            )
        return _bad(member, SHAPES[name]["members"][member]["shape"]).map(lambda bad: {**request, member: bad})

    return st.tuples(
        _good(operation, name), st.sampled_from(sorted(SHAPES[name]["members"])), st.integers(0, 9)
    ).flatmap(spoilt)


def _bad(member: str, shape: str) -> st.SearchStrategy[Any]:
    return values(shape) | _PLAUSIBLE[member] if member in _PLAUSIBLE else values(shape)


_OFTEN = ["SendMessage", "SendMessageBatch", *["ReceiveMessage"] * 4, "DeleteMessageBatch", "StartMessageMoveTask"]
CALLS = st.sampled_from([*sorted(INPUTS), *_OFTEN]).flatmap(
    lambda name: st.tuples(st.just(name), _good(name, INPUTS[name]) | _odd(name, INPUTS[name]) | values(INPUTS[name]))
)
"""An operation, and what it is asked with: what is good, good but for one member, or only of the right shape."""


def harmless(operation: str, request: Any, receipts: Sequence[str], tasks: Sequence[str]) -> Any:
    """With real handles; without waits, and without the end of the queues that are kept."""
    if operation == "DeleteQueue" and isinstance(request, dict) and "/pass" not in str(request.get("QueueUrl")):
        request = {**request, "QueueUrl": _URLS[4]}
    return _resolved(request, receipts, tasks)


def _resolved(value: Any, receipts: Sequence[str], tasks: Sequence[str]) -> Any:
    match value:
        case dict():
            return {name: 0 if _waits(name, one) else _resolved(one, receipts, tasks) for name, one in value.items()}
        case list():
            return [_resolved(one, receipts, tasks) for one in value]
        case str() if value in LARGE:
            return LARGE[value]
        case str() if value.startswith((RECEIPT, TASK)) and value[-1].isdecimal():
            given = receipts if value.startswith(RECEIPT) else tasks
            number = int(value.lstrip(RECEIPT + TASK))
            return given[-1 - number] if number < len(given) else value
        case _:
            return value


def _waits(name: str, value: Any) -> bool:
    return name == "WaitTimeSeconds" and value in range(1, 21)


def form(name: str, value: Any, shape: str, prefix: str = "") -> list[tuple[str, str]]:
    """What a client of the Query protocol would make of it; what does not fit its shape is written as text."""
    described = SHAPES[shape]
    match described["type"], value:
        case "structure", dict():
            found = []
            for one, inner in value.items():
                member = described["members"].get(one, {"shape": "String"})
                called = query_name(one, SHAPES[member["shape"]], SHAPES)
                found += form(called, inner, member["shape"], f"{prefix}{name}." if name else "")
            return found
        case "list", list():
            inner = described["member"]["shape"]
            return [
                pair for number, one in enumerate(value, 1) for pair in form(f"{name}.{number}", one, inner, prefix)
            ]
        case "map", dict():
            key, content = entry_names(described)
            found = []
            for number, (one, inner) in enumerate(value.items(), 1):
                found.append((f"{prefix}{name}.{number}.{key}", one))
                found += form(f"{name}.{number}.{content}", inner, described["value"]["shape"], prefix)
            return found
        case _:
            return [(prefix + name, str(value).lower() if isinstance(value, bool) else str(value))]
