"""What a broker promises, as tests: a module for each part of it. `redrive.testing.broker_suite` joins them."""
