"""Help for testing applications and adapters: rehearsals in virtual time, and the suites that every adapter passes."""

from redrive.harness import Harness, outage

__all__ = ["Harness", "outage"]
