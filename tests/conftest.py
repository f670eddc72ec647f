"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("redrive.testing.broker_suite", "redrive.testing.store_suite")

# A slow machine is no fault of the code: each test has a timeout of its own.
settings.register_profile("redrive", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("redrive")
