"""Stores, one module each; every one passes the suite in `redrive.testing.store_suite`."""
