"""Help for testing: applications in virtual time, the suites that adapters pass, and the checker of what happened."""

from redrive.harness import Harness, outage
from redrive.testing.checker import Checker
from redrive.testing.history import History
from redrive.testing.recording import Recorded, Recorder, remaining
from redrive.testing.rules.case import Violation

__all__ = ["Checker", "Harness", "History", "Recorded", "Recorder", "Violation", "outage", "remaining"]
