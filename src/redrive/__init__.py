"""Self-healing message consumers.

Write a handler; redrive gives it retries with backoff, two kinds of dead-letter queue, a circuit breaker shared by all
workers, redrive that starts by itself once a canary says that the dependency is healthy, and idempotency.
"""

from redrive.app import App
from redrive.backoff import Backoff
from redrive.circuit import State
from redrive.circuits import CircuitChange
from redrive.clock import Clock
from redrive.consumer import Consumer
from redrive.context import Context, Outage, current
from redrive.dependency import Dependency
from redrive.errors import (
    BodyTooLarge,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    DeclarationError,
    HandlerEnded,
    LimitExceeded,
    NotConfigured,
    NotOpen,
    NoTransaction,
    OtherArguments,
    OutcomeUnknown,
    PayloadError,
    RedriveError,
    Reject,
    ResultNotKept,
    RetryLater,
    SagaError,
    StepFailed,
    StepRejected,
    StillInProgress,
    StoreError,
    Unavailable,
    WaitTimedOut,
)
from redrive.idempotency import once
from redrive.message import FailureRecord, Message
from redrive.queue import Queue
from redrive.sagas.saga import Saga
from redrive.sagas.steps import Step, step

__version__ = "0.1.0"

__all__ = [
    "App",
    "Backoff",
    "BodyTooLarge",
    "BrokerError",
    "BrokerUnavailable",
    "CircuitChange",
    "Clock",
    "ConfigurationError",
    "Consumer",
    "Context",
    "DeclarationError",
    "Dependency",
    "FailureRecord",
    "HandlerEnded",
    "LimitExceeded",
    "Message",
    "NoTransaction",
    "NotConfigured",
    "NotOpen",
    "OtherArguments",
    "Outage",
    "OutcomeUnknown",
    "PayloadError",
    "Queue",
    "RedriveError",
    "Reject",
    "ResultNotKept",
    "RetryLater",
    "Saga",
    "SagaError",
    "State",
    "Step",
    "StepFailed",
    "StepRejected",
    "StillInProgress",
    "StoreError",
    "Unavailable",
    "WaitTimedOut",
    "current",
    "once",
    "step",
]
