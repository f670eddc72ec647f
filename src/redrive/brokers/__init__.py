"""Brokers, a module or a package each; every one passes the suite in `redrive.testing.broker_suite`."""
