"""PostgreSQL through a pool of asyncpg. The SQL texts are those of SQLite; `json_each(text)` is made by the
migrations.

It must never be given statements of its own: what only one engine understands has no place in the stages.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Literal

import asyncpg

from piste.hub.db.base import ConflictError, Row, Value, Witness
from piste.hub.errors import HubError
from piste.lib.errors import UsageError

POOL_SIZE: Final = 10
COMMAND_SECONDS: Final = 60.0


class PostgresConnection:
    """One connection inside a transaction."""

    def __init__(self, connection: Any) -> None:  # a proxy of asyncpg.Connection; asyncpg's types are loose
        self._connection = connection

    async def all(self, sql: str, *values: Value) -> Sequence[Row]:
        with _translated():
            rows: Sequence[Row] = await self._connection.fetch(sql, *values)
            return rows

    async def one(self, sql: str, *values: Value) -> Row | None:
        with _translated():
            row: Row | None = await self._connection.fetchrow(sql, *values)
            return row

    async def run(self, sql: str, *values: Value) -> int:
        with _translated():
            status: str = await self._connection.execute(sql, *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        with _translated():
            await self._connection.executemany(sql, rows)

    async def script(self, sql: str) -> None:
        """Several statements, for migrations."""
        with _translated():
            await self._connection.execute(sql)


class PostgresDatabase:
    """A pool of connections to one database."""

    engine: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(self, pool: Any) -> None:
        self.witness: Witness | None = None
        self._pool = pool

    async def all(self, sql: str, *values: Value) -> Sequence[Row]:
        with _translated():
            rows: Sequence[Row] = await self._pool.fetch(sql, *values)
            return rows

    async def one(self, sql: str, *values: Value) -> Row | None:
        with _translated():
            row: Row | None = await self._pool.fetchrow(sql, *values)
            return row

    async def scan(self, sql: str, *values: Value) -> Sequence[Row]:
        return await self.all(sql, *values)

    async def version(self) -> object:
        # Which transactions are over: also those of other databases of the same server, which does no harm.
        row = await self.one("SELECT CAST(pg_current_snapshot() AS TEXT) AS version")
        return None if row is None else row["version"]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresConnection]:
        async with self._pool.acquire() as connection:
            with _translated():
                async with connection.transaction():
                    made = PostgresConnection(connection)
                    yield made
                    if self.witness is not None:
                        await self.witness.before_commit(made)
        if self.witness is not None:
            self.witness.committed()

    async def close(self) -> None:
        try:
            async with asyncio.timeout(10):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def connect(url: str) -> PostgresDatabase:
    """Open the pool; UsageError when there is no such database."""
    try:
        pool = await asyncpg.create_pool(
            url, min_size=1, max_size=POOL_SIZE, command_timeout=COMMAND_SECONDS, timeout=10
        )
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # The message of the error may quote the address, and with it the password.
        raise UsageError(
            "database-unreachable",
            f"The PostgreSQL database can't be opened ({type(error).__name__}).",
            hint="Check PISTE_DATABASE: postgresql://USER@HOST/NAME, and that the server takes connections.",
        ) from None
    return PostgresDatabase(pool)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise ConflictError(str(error)) from error
    except asyncpg.CharacterNotInRepertoireError as error:
        # The only text that the hub takes and PostgreSQL does not: one that holds a NUL.
        raise HubError("bad-request", "The request holds a character that is no text.") from error
    except asyncpg.DiskFullError as error:
        raise OSError(errno.ENOSPC, "the database's disk is full") from error
    except (
        asyncpg.TooManyConnectionsError,
        asyncpg.DeadlockDetectedError,
        asyncpg.SerializationError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
    ) as error:
        raise HubError("overloaded", "The database is busy.", hint="Try again in a few seconds.") from error
