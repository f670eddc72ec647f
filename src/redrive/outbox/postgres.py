"""Reading the outbox in a PostgreSQL database, by psycopg 3; woken by the NOTIFY of each transaction that wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redrive.errors import DeclarationError, StoreUnavailable
from redrive.outbox.source import LARGEST_READ, Row, without_table
from redrive.outbox.statements import in_percents, statements

if TYPE_CHECKING:
    import psycopg

_PATIENCE = 10
"""Seconds that connecting may take."""
_NO_TABLE = "42P01"
"""Source: PostgreSQL, appendix A, `undefined_table`."""


class PostgresSource:
    """One connection, made anew after each trouble."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._sql = {name: in_percents(sql) for name, sql in statements("postgresql").items()}

    @property
    def address(self) -> str:
        """Where it is, without user, password and options."""
        parts = urlsplit(self._address())
        place = parts.netloc.rpartition("@")[2]
        return f"postgresql://{place}{parts.path}"

    async def next(self, app: str, *, without: tuple[Collection[str], Collection[str]], limit: int) -> list[Row]:
        """What is committed, in order.

        A lower id may be committed later than a higher one: nothing is left out for having come late.
        """
        queues, lines = map(list, without)
        values = {"app": app, "queues": queues, "lines": lines, "limit": limit, "characters": LARGEST_READ}
        rows = await self._execute("next", values)
        return [Row(id=one[0], queue=one[1], line=one[2], document=one[3]) for one in rows]

    async def delete(self, ids: Collection[int]) -> None:
        """Forget rows, in one transaction."""
        await self._execute("delete", {"ids": list(ids)})

    async def changed(self, wait: float) -> None:
        """Wait for a NOTIFY; one that came since the last call is there still."""
        import psycopg  # noqa: PLC0415 - imported when asked for

        try:
            connection = await self._opened()
            async for _ in connection.notifies(timeout=wait, stop_after=1):
                return
        except psycopg.Error as error:
            raise await self._trouble(error) from error

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken: that is why it is closed
                await connection.close()

    async def _execute(self, name: str, values: dict[str, Any]) -> list[Any]:
        import psycopg  # noqa: PLC0415 - likewise

        try:
            connection = await self._opened()
            cursor = await connection.execute(self._sql[name].encode(), values)
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise await self._trouble(error) from error

    async def _opened(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            import psycopg  # noqa: PLC0415 - likewise

            self._connection = await psycopg.AsyncConnection.connect(
                self._address(), autocommit=True, connect_timeout=_PATIENCE, application_name="redrive relay"
            )
            await self._connection.execute(self._sql["listen"].encode())
        return self._connection

    async def _trouble(self, error: psycopg.Error) -> StoreUnavailable:
        await self.close()
        if error.sqlstate == _NO_TABLE:
            return without_table(self.address, "postgresql")
        return StoreUnavailable(self.address, " ".join(str(error).split()) or type(error).__name__)


def check_client() -> None:
    """Be sure that psycopg is there.

    Raises:
        DeclarationError: If it is not.
    """
    try:
        import psycopg  # noqa: F401, PLC0415 - whether it is there
    except ImportError:
        problem = "needs psycopg, which is not installed"
        raise DeclarationError("a relay from PostgreSQL", problem, "pip install 'redrive[postgres]'") from None
