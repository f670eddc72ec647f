"""What all tests share."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("redrive.testing.broker_suite", "redrive.testing.store_suite")

# A slow machine is no fault of the code: each test has a timeout of its own.
settings.register_profile("redrive", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("redrive")

# Of a shell's background job SIGINT is ignored, and of all that it starts: Ctrl-C would end nothing that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
