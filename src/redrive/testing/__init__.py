"""Help for testing: applications in virtual time, suites that adapters pass, faults on purpose, and a checker."""

from redrive.harness import Harness, outage
from redrive.testing.checker import Checker
from redrive.testing.faulty import FaultyBroker, FaultyStore
from redrive.testing.history import History
from redrive.testing.plain import PlainBroker
from redrive.testing.recording import Recorded, Recorder, remaining
from redrive.testing.rules.case import Violation

__all__ = [
    "Checker",
    "FaultyBroker",
    "FaultyStore",
    "Harness",
    "History",
    "PlainBroker",
    "Recorded",
    "Recorder",
    "Violation",
    "outage",
    "remaining",
]
