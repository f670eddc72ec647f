"""What each error says: the value, the limit that it breaks and the remedy; and which facts it keeps for code."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from redrive import errors
from redrive.errors import (
    BodyTooLarge,
    BrokerUnavailable,
    CannotContinue,
    ClaimLost,
    DatabaseTooNew,
    DatabaseUnusable,
    DeclarationError,
    DiskNearlyFull,
    HandlerEnded,
    JournalLost,
    LimitExceeded,
    NewerRecord,
    NonDeterministic,
    NotConfigured,
    NotFound,
    NotKept,
    NotOpen,
    NotPermitted,
    NoTransaction,
    OperationRefused,
    OtherArguments,
    OutcomeUnknown,
    PayloadError,
    QueueConflict,
    QueueNotFound,
    RedriveError,
    Reject,
    ResultNotKept,
    RetryLater,
    StaleReceipt,
    StepFailed,
    StepRejected,
    StillInProgress,
    StoreUnavailable,
    Unavailable,
    UndeclaredDependency,
    UnsentLost,
    ValueTooLarge,
    VersionConflict,
    WaitTimedOut,
)

MIB = 1_048_576
SENTENCES: list[tuple[Callable[[], RedriveError], str]] = [
    (
        lambda: NotConfigured("shop"),
        (
            "application 'shop' has no broker; write App('shop', broker='sqlite:shop.db') "
            "or set REDRIVE_BROKER=sqlite:/path/to/shop.db"
        ),
    ),
    (lambda: DeclarationError("queue 'a b'", "has a space", "leave it out"), "queue 'a b' has a space; leave it out"),
    (
        lambda: NotOpen("shop"),
        "application 'shop' is not open; use it inside `async with app:`, or `send_blocking` in plain code",
    ),
    (
        lambda: UndeclaredDependency("payments", "orders"),
        (
            "the consumer of 'orders' used dependency 'payments' without declaring it; "
            "add it to `needs=[...]`, so that what it parks can be healed"
        ),
    ),
    (lambda: PayloadError("orders", "it is no JSON"), "not a message for queue 'orders': it is no JSON"),
    (
        lambda: BodyTooLarge("orders", 11, 10),
        "not a message for queue 'orders': 11 bytes, over the limit of 10; keep the content elsewhere and send its key",
    ),
    (lambda: BrokerUnavailable("sqlite:a.db", "it was closed"), "broker 'sqlite:a.db' is unavailable: it was closed"),
    (
        lambda: NotPermitted("sqs://", "sqs:DeleteMessage", "orders"),
        (
            "the credentials in use may not call sqs:DeleteMessage on queue 'orders' of broker 'sqs://'; "
            "allow it in the identity's policy or in the queue's"
        ),
    ),
    (
        lambda: DiskNearlyFull("sqlite:a.db", 3 * MIB, 64 * MIB),
        (
            "broker 'sqlite:a.db' takes no more messages: "
            "3.0 MiB are free on its disk, under the floor of 64.0 MiB; make room"
        ),
    ),
    (
        lambda: OutcomeUnknown("sqlite:a.db", "disk I/O error"),
        "broker 'sqlite:a.db' may or may not have done it: disk I/O error; try again under the same id",
    ),
    (
        lambda: QueueNotFound("orders"),
        "queue 'orders' does not exist; declare it with app.queue('orders', ...) and open the application",
    ),
    (
        lambda: StaleReceipt("orders", "m1"),
        (
            "the receipt for message 'm1' of queue 'orders' is stale: it was settled, "
            "or its lease ended and it was received again; whoever holds it now will settle it"
        ),
    ),
    (
        lambda: LimitExceeded("delay", 901.0, "from 0 to 900 seconds"),
        "delay is 901.0; it must be from 0 to 900 seconds",
    ),
    (lambda: QueueConflict("orders", "is a FIFO queue", "delete it"), "queue 'orders' is a FIFO queue; delete it"),
    (
        lambda: DatabaseUnusable("/a.db", "is no database", "move it away"),
        "database '/a.db' is no database; move it away",
    ),
    (
        lambda: DatabaseTooNew("/a.db", 9, 2),
        "database '/a.db' has schema 9, and this redrive knows 2; install the newer redrive",
    ),
    (lambda: StoreUnavailable("sqlite:a.db", "it was closed"), "store 'sqlite:a.db' is unavailable: it was closed"),
    (
        lambda: VersionConflict("circuits", "payments"),
        "entry 'payments' of 'circuits' was changed by somebody else; read it again",
    ),
    (
        lambda: ValueTooLarge("claims", "k", 11, 10),
        (
            "entry 'k' of 'claims' has 11 bytes, over the store's limit of 10; "
            "keep the content elsewhere, and its key here"
        ),
    ),
    (
        lambda: ClaimLost("k"),
        "the claim of 'k' was taken over by another worker; its outcome counts, this one's does not",
    ),
    (
        lambda: NewerRecord("circuit", 3, 1),
        "circuit has version 3, and this redrive knows 1; a newer worker will take it",
    ),
    (
        lambda: StepFailed("order-7/charge/1", "OSError: away"),
        "step 'order-7/charge/1' was given up on, and may have taken effect: OSError: away",
    ),
    (
        lambda: StepRejected("order-7/reserve/1", "no oat milk"),
        "step 'order-7/reserve/1' was rejected: no oat milk",
    ),
    (lambda: WaitTimedOut("order-7", "approved"), "saga 'order-7' waited for 'approved', which did not come in time"),
    (
        lambda: NotKept("the result of step 'charge'", "has 40000 bytes, over the limit of 32768", "return its key"),
        "the result of step 'charge' has 40000 bytes, over the limit of 32768; return its key",
    ),
    (
        lambda: CannotContinue("order-7", "its code has no version 1", "keep it"),
        "saga 'order-7' cannot go on: its code has no version 1; keep it",
    ),
    (lambda: JournalLost("order-7"), "saga 'order-7' was taken over by another turn, whose word counts"),
    (
        lambda: HandlerEnded("orders/1"),
        (
            "'orders/1' has ended, and what it sends leaves when it succeeds; "
            "await the tasks that it starts, or write send(..., now=True)"
        ),
    ),
    (
        lambda: NoTransaction("an sqlite3 connection in autocommit mode"),
        (
            "an sqlite3 connection in autocommit mode commits each statement by itself, so that a message could leave "
            "without your changes; begin a transaction first"
        ),
    ),
    (
        lambda: StillInProgress("once:shop:charge:7", 2.5),
        "'once:shop:charge:7' is still in progress elsewhere after 2.5 s; call again later, or raise wait=",
    ),
    (
        lambda: OtherArguments("once:shop:charge:7"),
        "'once:shop:charge:7' was used for other arguments; make the key of everything that makes a call another one",
    ),
    (
        lambda: ResultNotKept("once:shop:charge:7", "has 40000 bytes of JSON, over the limit of 32768"),
        (
            "the result of 'once:shop:charge:7' has 40000 bytes of JSON, over the limit of 32768; "
            "keep it elsewhere and return its key"
        ),
    ),
    (
        lambda: UnsentLost("orders:7"),
        "what 'orders:7' had still to send is gone from the store; send it by hand",
    ),
    (
        lambda: NonDeterministic("order-7", "it returned 2, and its journal says 1"),
        (
            "saga 'order-7' does not do the same when it is run again: it returned 2, and its journal says 1; "
            "ask saga.now(), saga.random() and saga.uuid(), and let steps do what touches the world"
        ),
    ),
    (lambda: OperationRefused("queue 'a'", "is empty", "send first"), "queue 'a' is empty; send first"),
    (lambda: NotFound("queue 'a'", "see redrive queue list"), "queue 'a' does not exist; see redrive queue list"),
    (lambda: Reject("no such drink"), "no such drink"),
    (RetryLater, "try again later"),
    (lambda: RetryLater("busy"), "try again later: busy"),
    (lambda: RetryLater("busy", 2.5), "try again in 2.5 s: busy"),
    (lambda: RetryLater(after=0.0), "try again in 0 s"),
    (lambda: Unavailable("payments", "ConnectError"), "dependency 'payments' is unavailable: ConnectError"),
]


@pytest.mark.parametrize(("make", "sentence"), SENTENCES)
def test_an_error_says_what_is_wrong_and_what_to_do(make: Callable[[], RedriveError], sentence: str) -> None:
    """In one sentence, to the letter: people search for it."""
    assert str(make()) == sentence


def test_every_error_with_a_sentence_is_here() -> None:
    """None was forgotten."""
    said = {type(make()) for make, _ in SENTENCES}
    every = {
        one for one in _all(RedriveError) if one.__str__ is not Exception.__str__ and one.__module__ == errors.__name__
    }
    assert every == said


@pytest.mark.parametrize("make", [make for make, _ in SENTENCES])
def test_the_arguments_of_an_error_are_its_facts(make: Callable[[], RedriveError]) -> None:
    """All of them in their order, and each under its name: what was given is what is kept."""
    error = make()
    signature = inspect.signature(type(error).__init__)
    given = signature.bind(error, *error.args)
    given.apply_defaults()
    facts = {name: value for name, value in given.arguments.items() if name != "self"}
    assert facts
    assert {name: getattr(error, name) for name in facts} == facts
    assert None not in [value for name, value in facts.items() if name != "after"]


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (NotConfigured, ("shop",)),
        (DeclarationError, ("subject", "problem", "remedy")),
        (NotOpen, ("shop",)),
        (UndeclaredDependency, ("payments", "orders")),
        (PayloadError, ("orders", "problem")),
        (BodyTooLarge, ("orders", 11, 10)),
        (BrokerUnavailable, ("address", "problem")),
        (DiskNearlyFull, ("sqlite:a.db", 1, 2)),
        (NotPermitted, ("sqs://", "sqs:DeleteMessage", "orders", True)),
        (OutcomeUnknown, ("address", "problem")),
        (QueueNotFound, ("orders",)),
        (StaleReceipt, ("orders", "m1")),
        (LimitExceeded, ("what", 3, "limit")),
        (QueueConflict, ("orders", "problem", "remedy")),
        (DatabaseUnusable, ("path", "problem", "remedy")),
        (DatabaseTooNew, ("/a.db", 9, 2)),
        (StoreUnavailable, ("address", "problem")),
        (VersionConflict, ("namespace", "key")),
        (ValueTooLarge, ("claims", "k", 11, 10)),
        (ClaimLost, ("k",)),
        (NewerRecord, ("circuit", 3, 1)),
        (OperationRefused, ("subject", "problem", "remedy")),
        (NotFound, ("queue 'a'", "look")),
        (Reject, ("why",)),
        (RetryLater, ("busy", 2.5)),
        (Unavailable, ("payments", "why", True, False)),
    ],
)
def test_args_are_what_was_given(kind: Callable[..., RedriveError], facts: tuple[object, ...]) -> None:
    """So that it can be made again from them, as pickling does."""
    error = kind(*facts)
    assert error.args == facts
    names = inspect.signature(kind).parameters
    assert tuple(getattr(error, name) for name in names) == facts


def test_an_unavailable_dependency_is_counted_and_its_circuit_closed_unless_said() -> None:
    """What a handler's own code raises by hand."""
    error = Unavailable("payments", "why")
    assert (error.circuit_open, error.counted) == (False, True)
    assert (RetryLater().reason, RetryLater().after) == ("", None)


@pytest.mark.parametrize(("size", "shown"), [(0, "0.0"), (MIB // 2, "0.5"), (MIB * 1_536, "1536.0")])
def test_sizes_of_a_disk_are_told_in_mebibytes(size: int, shown: str) -> None:
    """To a tenth."""
    assert f": {shown} MiB are free" in str(DiskNearlyFull("a", size, 64 * MIB))


def _all(kind: type[RedriveError]) -> list[type[RedriveError]]:
    return [found for below in kind.__subclasses__() for found in (below, *_all(below))]
