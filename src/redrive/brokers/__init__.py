"""Brokers, one module each; every one passes the suite in `redrive.testing.broker_suite`."""
