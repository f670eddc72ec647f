"""The store on PostgreSQL. Importing this imports no client; making a `PostgresStore` does."""

from redrive.stores.postgres.address import PostgresAddress, parsed
from redrive.stores.postgres.store import PostgresStore

__all__ = ["PostgresAddress", "PostgresStore", "parsed"]
