"""Stores, a module or a package each; every one passes the suite in `redrive.testing.store_suite`."""
