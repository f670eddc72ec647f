"""Every error that redrive raises, as one tree.

    RedriveError
    ├── ConfigurationError           the application or its environment is wrong: fix it, then start again
    │   ├── NotConfigured            no broker was given
    │   ├── DeclarationError         a queue, consumer or dependency was declared wrongly
    │   ├── NotOpen                  the application was used before `async with app:`
    │   ├── UndeclaredDependency     a handler used a dependency that its `needs` does not name
    │   ├── HandlerEnded             a message was sent for a handler that had ended already
    │   └── NoTransaction            an outbox was given a connection that commits each statement by itself
    ├── PayloadError                 the body does not fit the queue's type: the producer's fault, never retried
    │   └── BodyTooLarge             the body is over the limit
    ├── BrokerError                  the broker could not do it
    │   ├── BrokerUnavailable        nothing happened; try again
    │   │   ├── DiskNearlyFull       sends are refused until there is room; all else goes on
    │   │   └── NotPermitted         the credentials may not do it, until somebody allows it
    │   ├── OutcomeUnknown           it may have happened; try again under the same message id
    │   ├── QueueNotFound            no such queue
    │   ├── StaleReceipt             the lease ended or the message was settled already: nothing happened
    │   ├── LimitExceeded            a value is outside what the broker takes
    │   ├── QueueConflict            a queue cannot be what it is declared as
    │   └── DatabaseUnusable         the embedded broker's file cannot be used as it is
    │       └── DatabaseTooNew       a later version of redrive wrote it
    ├── StoreError
    │   ├── StoreUnavailable         nothing is known; try again
    │   ├── VersionConflict          somebody else wrote first; read again
    │   └── ValueTooLarge            the value is over the store's `max_value`
    ├── StillInProgress              somebody else works on the key, and did not finish in the time given
    ├── OtherArguments               the key was used for a call with other arguments
    ├── ResultNotKept                the work was done, and its result cannot be kept for later calls
    ├── UnsentLost                   the store has lost what finished work had still to send
    ├── ClaimLost                    the claim of an idempotency key was taken over: this turn may write nothing
    ├── SagaError
    │   ├── StepFailed               a step was given up on, and may have taken effect: the saga is undone
    │   ├── WaitTimedOut             no signal came in time
    │   ├── NotKept                  a value cannot stand in a journal
    │   ├── CannotContinue           the code does not fit the journal: the saga is stuck
    │   ├── NonDeterministic         a test found that a saga's function goes another way when it is run again
    │   └── JournalLost              another turn has taken the instance over: this one may write nothing
    ├── NewerRecord                  a later version of redrive wrote this record: left for a newer worker
    ├── OperationRefused             an operator asked for something that cannot be done as asked
    │   └── NotFound                 what the operator named does not exist
    └── Decision                     not failures of redrive: raised by handlers to say what to do
        ├── Reject                   this message can never succeed: dead at once; of a step: a certain no
        │   └── StepRejected         what a saga is told of such a step
        ├── RetryLater               come back later, not counted
        └── Unavailable              a dependency is down: parked or delayed, never an attempt

The arguments of an error are its facts and its sentence is made of them, so that an error survives pickling.
"""

from __future__ import annotations


class RedriveError(Exception):
    """The root of everything redrive raises."""


class ConfigurationError(RedriveError):
    """The application or its environment is wrong; starting it again will not help until it is fixed."""


class NotConfigured(ConfigurationError):
    """No broker was given, neither in code nor in the environment."""

    def __init__(self, app: str) -> None:
        super().__init__(app)
        self.app = app

    def __str__(self) -> str:
        return (
            f"application {self.app!r} has no broker; "
            f"write App({self.app!r}, broker='sqlite:{self.app}.db') "
            f"or set REDRIVE_BROKER=sqlite:/path/to/{self.app}.db"
        )


class DeclarationError(ConfigurationError):
    """A queue, consumer, dependency or setting was declared in a way that cannot work."""

    def __init__(self, subject: str, problem: str, remedy: str) -> None:
        super().__init__(subject, problem, remedy)
        self.subject, self.problem, self.remedy = subject, problem, remedy

    def __str__(self) -> str:
        return f"{self.subject} {self.problem}; {self.remedy}"


class NotOpen(ConfigurationError):
    """The application was used before it was opened."""

    def __init__(self, app: str) -> None:
        super().__init__(app)
        self.app = app

    def __str__(self) -> str:
        return (
            f"application {self.app!r} is not open; use it inside `async with app:`, or `send_blocking` in plain code"
        )


class UndeclaredDependency(ConfigurationError):
    """A handler used a dependency that its consumer's `needs` does not name."""

    def __init__(self, dependency: str, queue: str) -> None:
        super().__init__(dependency, queue)
        self.dependency, self.queue = dependency, queue

    def __str__(self) -> str:
        return (
            f"the consumer of {self.queue!r} used dependency {self.dependency!r} without declaring it; "
            f"add it to `needs=[...]`, so that what it parks can be healed"
        )


class HandlerEnded(ConfigurationError):
    """A message was sent for a handler that had ended already, so that nothing decides any more whether it leaves."""

    def __init__(self, origin: str) -> None:
        super().__init__(origin)
        self.origin = origin

    def __str__(self) -> str:
        return (
            f"{self.origin!r} has ended, and what it sends leaves when it succeeds; "
            f"await the tasks that it starts, or write send(..., now=True)"
        )


class NoTransaction(ConfigurationError):
    """An outbox was given a connection on which each statement is a transaction of its own."""

    def __init__(self, connection: str) -> None:
        super().__init__(connection)
        self.connection = connection

    def __str__(self) -> str:
        return (
            f"{self.connection} commits each statement by itself, so that a message could leave without your changes; "
            f"begin a transaction first"
        )


class PayloadError(RedriveError):
    """A body does not fit its queue's type, or is not JSON that everybody reads alike."""

    def __init__(self, queue: str, problem: str) -> None:
        super().__init__(queue, problem)
        self.queue, self.problem = queue, problem

    def __str__(self) -> str:
        return f"not a message for queue {self.queue!r}: {self.problem}"


class BodyTooLarge(PayloadError):
    """A body is over the limit, which leaves room for a failure record beside it."""

    def __init__(self, queue: str, size: int, limit: int) -> None:
        super().__init__(queue, f"{size} bytes")
        self.args = (queue, size, limit)
        self.size, self.limit = size, limit

    def __str__(self) -> str:
        return (
            f"not a message for queue {self.queue!r}: {self.size} bytes, over the limit of {self.limit}; "
            f"keep the content elsewhere and send its key"
        )


class BrokerError(RedriveError):
    """The broker could not do what was asked."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached or is closed; nothing happened."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem)
        self.address, self.problem = address, problem

    def __str__(self) -> str:
        return f"broker {self.address!r} is unavailable: {self.problem}"


class DiskNearlyFull(BrokerUnavailable):
    """The disk below the embedded broker has little room left: it takes no messages until there is more.

    Nothing was sent. What waits can be received, acknowledged, retried, parked and declared dead all the same.
    """

    def __init__(self, address: str, free: int, floor: int) -> None:
        super().__init__(address, f"{_mebibytes(free)} are free on its disk, under the floor of {_mebibytes(floor)}")
        self.args = (address, free, floor)
        self.free, self.floor = free, floor

    def __str__(self) -> str:
        return f"broker {self.address!r} takes no more messages: {self.problem}; make room"


class NotPermitted(BrokerUnavailable):
    """The credentials may not do it; nothing happened. Once they may, it works."""

    def __init__(self, address: str, action: str, queue: str, removing: bool = False) -> None:  # noqa: FBT001, FBT002 - a fact of the error, kept positional for pickling
        """State the facts.

        Args:
            address: the broker's.
            action: what is not allowed, as the broker's policies name it.
            queue: on which queue.
            removing: whether it is to remove a message; of a forward, all else was done by then.
        """
        super().__init__(address, f"its credentials may not call {action} on {queue!r}")
        self.args = (address, action, queue, removing)
        self.action, self.queue, self.removing = action, queue, removing

    def __str__(self) -> str:
        return (
            f"the credentials in use may not call {self.action} on queue {self.queue!r} of broker {self.address!r}; "
            "allow it in the identity's policy or in the queue's"
        )


class OutcomeUnknown(BrokerError):
    """The call may have taken effect or not; repeat it under the same message id."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem)
        self.address, self.problem = address, problem

    def __str__(self) -> str:
        return f"broker {self.address!r} may or may not have done it: {self.problem}; try again under the same id"


class QueueNotFound(BrokerError):
    """No queue has this name."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self.queue = queue

    def __str__(self) -> str:
        remedy = f"declare it with app.queue({self.queue!r}, ...) and open the application"
        return f"queue {self.queue!r} does not exist; {remedy}"


class StaleReceipt(BrokerError):
    """The receipt is not the message's last one, or the message was settled already; nothing happened."""

    def __init__(self, queue: str, message_id: str) -> None:
        super().__init__(queue, message_id)
        self.queue, self.message_id = queue, message_id

    def __str__(self) -> str:
        return (
            f"the receipt for message {self.message_id!r} of queue {self.queue!r} is stale: it was settled, "
            f"or its lease ended and it was received again; whoever holds it now will settle it"
        )


class LimitExceeded(BrokerError):
    """A value is outside what the broker takes."""

    def __init__(self, what: str, value: object, limit: str) -> None:
        super().__init__(what, value, limit)
        self.what, self.value, self.limit = what, value, limit

    def __str__(self) -> str:
        return f"{self.what} is {self.value!r}; it must be {self.limit}"


class QueueConflict(BrokerError):
    """A queue exists and cannot become what it is declared as, or two queues do not fit together."""

    def __init__(self, queue: str, problem: str, remedy: str) -> None:
        super().__init__(queue, problem, remedy)
        self.queue, self.problem, self.remedy = queue, problem, remedy

    def __str__(self) -> str:
        return f"queue {self.queue!r} {self.problem}; {self.remedy}"


class DatabaseUnusable(BrokerError):
    """The embedded broker's file cannot be used as it is; it was left untouched."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(path, problem, remedy)
        self.path, self.problem, self.remedy = path, problem, remedy

    def __str__(self) -> str:
        return f"database {self.path!r} {self.problem}; {self.remedy}"


class DatabaseTooNew(DatabaseUnusable):
    """A later version of redrive wrote the file."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(path, f"has schema {found}, and this redrive knows {known}", "install the newer redrive")
        self.args = (path, found, known)
        self.found, self.known = found, known


class StoreError(RedriveError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be reached; whether a write happened is not known."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem)
        self.address, self.problem = address, problem

    def __str__(self) -> str:
        return f"store {self.address!r} is unavailable: {self.problem}"


class VersionConflict(StoreError):
    """The entry changed since it was read; nothing was written."""

    def __init__(self, namespace: str, key: str) -> None:
        super().__init__(namespace, key)
        self.namespace, self.key = namespace, key

    def __str__(self) -> str:
        return f"entry {self.key!r} of {self.namespace!r} was changed by somebody else; read it again"


class ValueTooLarge(StoreError):
    """A value is over what the store keeps in one entry."""

    def __init__(self, namespace: str, key: str, size: int, limit: int) -> None:
        super().__init__(namespace, key, size, limit)
        self.namespace, self.key, self.size, self.limit = namespace, key, size, limit

    def __str__(self) -> str:
        return (
            f"entry {self.key!r} of {self.namespace!r} has {self.size} bytes, over the store's limit of {self.limit}; "
            "keep the content elsewhere, and its key here"
        )


class StillInProgress(RedriveError):
    """Somebody else works on the key and did not finish in the time that the caller was ready to wait."""

    def __init__(self, key: str, waited: float) -> None:
        super().__init__(key, waited)
        self.key, self.waited = key, waited

    def __str__(self) -> str:
        return f"{self.key!r} is still in progress elsewhere after {self.waited:g} s; call again later, or raise wait="


class OtherArguments(RedriveError):
    """The key was used for a call with other arguments: one of the two callers is wrong. Nothing was done."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key!r} was used for other arguments; make the key of everything that makes a call another one"


class ResultNotKept(RedriveError):
    """The work was done, and is not done again; its result cannot be kept, so that no later call could get it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key, self.problem = key, problem

    def __str__(self) -> str:
        return f"the result of {self.key!r} {self.problem}; keep it elsewhere and return its key"


class UnsentLost(RedriveError):
    """The work under a key is done, and what it had still to send is not in the store any more."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"what {self.key!r} had still to send is gone from the store; send it by hand"


class ClaimLost(RedriveError):
    """The claim of an idempotency key was taken over after its lease; the late finisher writes nothing."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the claim of {self.key!r} was taken over by another worker; its outcome counts, this one's does not"


class SagaError(RedriveError):
    """A saga cannot go on as it was written."""


class StepFailed(SagaError):
    """A step was given up on; it may have taken effect. A saga that lets this pass is undone."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"step {self.key!r} was given up on, and may have taken effect: {self.reason}"


class WaitTimedOut(SagaError, TimeoutError):
    """No signal came in time. A saga that lets this pass is undone."""

    def __init__(self, saga: str, signal: str) -> None:
        super().__init__(saga, signal)
        self.saga, self.signal = saga, signal

    def __str__(self) -> str:
        return f"saga {self.saga!r} waited for {self.signal!r}, which did not come in time"


class NotKept(SagaError):
    """A value cannot stand in a journal, or what stands there cannot be read."""

    def __init__(self, subject: str, problem: str, remedy: str) -> None:
        super().__init__(subject, problem, remedy)
        self.subject, self.problem, self.remedy = subject, problem, remedy

    def __str__(self) -> str:
        return f"{self.subject} {self.problem}; {self.remedy}"


class CannotContinue(SagaError):
    """The code does not fit the journal of an instance, which is stuck until a deploy or a person mends that."""

    def __init__(self, saga: str, problem: str, remedy: str) -> None:
        super().__init__(saga, problem, remedy)
        self.saga, self.problem, self.remedy = saga, problem, remedy

    def __str__(self) -> str:
        return f"saga {self.saga!r} cannot go on: {self.problem}; {self.remedy}"


class NonDeterministic(SagaError):
    """A saga's function went another way when a test ran it again against its journal; a crash would have found it."""

    def __init__(self, saga: str, problem: str) -> None:
        super().__init__(saga, problem)
        self.saga, self.problem = saga, problem

    def __str__(self) -> str:
        return (
            f"saga {self.saga!r} does not do the same when it is run again: {self.problem}; "
            "ask saga.now(), saga.random() and saga.uuid(), and let steps do what touches the world"
        )


class JournalLost(SagaError):
    """Another turn has taken the instance over: this one may write nothing, and does not go on."""

    def __init__(self, saga: str) -> None:
        super().__init__(saga)
        self.saga = saga

    def __str__(self) -> str:
        return f"saga {self.saga!r} was taken over by another turn, whose word counts"


class NewerRecord(RedriveError):
    """A record was written by a later version of redrive."""

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(what, found, known)
        self.what, self.found, self.known = what, found, known

    def __str__(self) -> str:
        return f"{self.what} has version {self.found}, and this redrive knows {self.known}; a newer worker will take it"


class OperationRefused(RedriveError):
    """An operator asked for something that cannot be done as asked; nothing was changed."""

    def __init__(self, subject: str, problem: str, remedy: str) -> None:
        super().__init__(subject, problem, remedy)
        self.subject, self.problem, self.remedy = subject, problem, remedy

    def __str__(self) -> str:
        return f"{self.subject} {self.problem}; {self.remedy}"


class NotFound(OperationRefused):
    """What an operator named does not exist."""

    def __init__(self, subject: str, remedy: str) -> None:
        super().__init__(subject, "does not exist", remedy)
        self.args = (subject, remedy)


class Decision(RedriveError):
    """Raised by a handler to say what shall become of the message."""


class Reject(Decision):
    """This message can never succeed: it is dead at once, with the reason in its failure record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class StepRejected(Reject):
    """A step of a saga was rejected: it has no effect. A saga that lets this pass is undone."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.args = (key, reason)
        self.key = key

    def __str__(self) -> str:
        return f"step {self.key!r} was rejected: {self.reason}"


class RetryLater(Decision):
    """Deliver the message again, not before `after` seconds (None: the consumer's backoff); nothing is counted."""

    def __init__(self, reason: str = "", after: float | None = None) -> None:
        super().__init__(reason, after)
        self.reason, self.after = reason, after

    def __str__(self) -> str:
        when = "later" if self.after is None else f"in {self.after:g} s"
        return f"try again {when}" + (f": {self.reason}" if self.reason else "")


class Unavailable(Decision):
    """A dependency cannot be used now: its circuit is not closed, or the one try failed."""

    def __init__(
        self,
        dependency: str,
        reason: str,
        circuit_open: bool = False,  # noqa: FBT001, FBT002 - a fact of the error, kept positional for pickling
        counted: bool = True,  # noqa: FBT001, FBT002 - likewise
    ) -> None:
        """State the facts.

        Args:
            dependency: its name.
            reason: for people; the failed call's error, or why the circuit is open.
            circuit_open: whether the message waits for the healer (parked) or for a moment (delayed).
            counted: whether it is a bounce: a call was made and failed while there was no outage to explain it.
        """
        super().__init__(dependency, reason, circuit_open, counted)
        self.dependency, self.reason = dependency, reason
        self.circuit_open, self.counted = circuit_open, counted

    def __str__(self) -> str:
        return f"dependency {self.dependency!r} is unavailable: {self.reason}"


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
