"""The table: what it has to be, how it is made, and what is said when it is something else.

`declare` is safe to repeat and to run in several processes at once. A crash leaves all of the table or nothing.
"""

from __future__ import annotations

from typing import Any

from psycopg import errors

from redrive.errors import DeclarationError
from redrive.stores.postgres.address import Declare, PostgresAddress
from redrive.stores.postgres.connections import Connection
from redrive.stores.postgres.statements import definition

_COLUMNS = {
    "namespace": 'text COLLATE "C" NOT NULL',
    "key": 'text COLLATE "C" NOT NULL',
    "value": "bytea NOT NULL",
    "version": "bigint NOT NULL",
    "due_at_ms": "bigint",
    "expires_at_ms": "bigint",
}
_INDEXES = {
    "UNIQUE (namespace, key)": "ALTER TABLE {table} ADD PRIMARY KEY (namespace, key)",
    "(namespace, due_at_ms, key) WHERE (due_at_ms IS NOT NULL)": (
        "CREATE INDEX CONCURRENTLY ON {table} (namespace, due_at_ms, key) WHERE due_at_ms IS NOT NULL"
    ),
    "(expires_at_ms) WHERE (expires_at_ms IS NOT NULL)": (
        "CREATE INDEX CONCURRENTLY ON {table} (expires_at_ms) WHERE expires_at_ms IS NOT NULL"
    ),
}
_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
_FIND_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod)
    || CASE WHEN collname IS NULL OR collname = 'default' THEN '' ELSE ' COLLATE "' || collname || '"' END
    || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
FROM pg_attribute LEFT JOIN pg_collation ON pg_collation.oid = attcollation
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
_FIND_INDEXES = """
SELECT CASE WHEN indisunique THEN 'UNIQUE ' ELSE '' END
    || substring(pg_get_indexdef(indexrelid) FROM ' USING btree (.*)$')
FROM pg_index WHERE indrelid = to_regclass(%s) AND indisvalid
"""
_FIND_LACKING = """
SELECT privilege FROM unnest(%s::text[]) AS privilege
WHERE NOT has_table_privilege(to_regclass(%s), privilege)
"""

_MADE_JUST_NOW = (errors.DuplicateTable, errors.DuplicateObject, errors.DuplicateSchema, errors.UniqueViolation)
"""What whoever makes the same at the same time may get; its transaction is rolled back."""


class Table:
    """The table of one store, on one connection."""

    def __init__(self, address: PostgresAddress, connection: Connection) -> None:
        self._table, self._schema, self._connection = address.quoted, address.schema, connection
        self._subject = f"table {address.schema}.{address.table} of store {address.shown!r}"

    async def declare(self, how: Declare) -> None:
        """Make the table if it is missing, or only look at it.

        Raises:
            DeclarationError: If it is missing or differs, or something is not permitted; with the SQL that helps.
            psycopg.Error: If the server cannot be asked.
        """
        (encoding,) = (await self._rows("SELECT current_setting('server_encoding')"))[0]
        if encoding != "UTF8":
            remedy = "use a database that was made with ENCODING 'UTF8'"
            raise DeclarationError(self._subject, f"is in a database of encoding {encoding}", remedy)
        if not await self._exists():
            await self._make(how)
        await self._check()

    async def _exists(self) -> bool:
        try:
            return (await self._rows("SELECT to_regclass(%s) IS NOT NULL", self._table))[0] == (True,)
        except errors.InsufficientPrivilege as error:
            remedy = f'run: GRANT USAGE ON SCHEMA "{self._schema}" TO {await self._user()}'
            raise DeclarationError(self._subject, "is in a schema that is closed to its user", remedy) from error

    async def _make(self, how: Declare) -> None:
        sql = definition(self._table)
        if not (await self._rows("SELECT to_regnamespace(%s) IS NOT NULL", f'"{self._schema}"'))[0][0]:
            sql = f'CREATE SCHEMA "{self._schema}";\n{sql}'
        if how == "verify":
            raise DeclarationError(
                self._subject, "does not exist", f"add declare=create to its address, or run:\n{sql}"
            )
        try:
            async with self._connection.transaction():
                await self._connection.execute(sql.encode())
        except _MADE_JUST_NOW:
            return  # another process has made it just now
        except errors.InsufficientPrivilege as error:
            remedy = f"let somebody who may run:\n{sql}"
            raise DeclarationError(self._subject, "cannot be made by its user", remedy) from error

    async def _check(self) -> None:
        """Say all that is wrong at once, with what to run."""
        columns = dict(await self._rows(_FIND_COLUMNS, self._table))
        if wrong := [_difference(name, columns) for name, kind in _COLUMNS.items() if columns.get(name) != kind]:
            remedy = "give another name, as ?table=NAME, or alter it"
            raise DeclarationError(self._subject, f"is not what redrive needs: {'; '.join(wrong)}", remedy)
        indexes = {definition for (definition,) in await self._rows(_FIND_INDEXES, self._table)}
        lacking = {name: sql for name, sql in _INDEXES.items() if name not in indexes}
        if lacking:
            remedy = "run:\n" + ";\n".join(sql.format(table=self._table) for sql in lacking.values())
            raise DeclarationError(self._subject, f"has no index {' and no index '.join(lacking)}", remedy)
        denied = [privilege for (privilege,) in await self._rows(_FIND_LACKING, list(_PRIVILEGES), self._table)]
        if denied:
            remedy = f"run: GRANT {', '.join(denied)} ON {self._table} TO {await self._user()}"
            raise DeclarationError(self._subject, f"does not permit {', '.join(denied)} to its user", remedy)

    async def _user(self) -> str:
        return str((await self._rows("SELECT quote_ident(current_user)"))[0][0])

    async def _rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - whatever SQL takes
        cursor = await self._connection.execute(sql.encode(), arguments)
        return await cursor.fetchall()


def _difference(name: str, columns: dict[str, str]) -> str:
    found = columns.get(name)
    return f"it has no column {name}" if found is None else f"{name} is {found}, not {_COLUMNS[name]}"
