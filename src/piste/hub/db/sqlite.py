"""SQLite in WAL mode: one writer with its own thread, one reader on the event loop, one for long scans.

Every writing transaction is BEGIN IMMEDIATE, since a read snapshot can't be upgraded once another process has
written; `synchronous=FULL`, since what was acknowledged must survive a loss of power. It must never write
outside `transaction`: the other connections are `query_only`.
"""

import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

from piste.hub.db.base import ConflictError, Row, Value, Witness
from piste.hub.errors import HubError

BUSY_SECONDS: Final = 10.0
# Of the database each connection keeps this much in memory; what more it needs is in the system's.
_CACHE_KIB: Final = 4_000
_CONFLICTS: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})

T = TypeVar("T")


class SqliteConnection:
    """The writer inside a transaction; each statement runs in the writer's thread."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread

    async def all(self, sql: str, *values: Value) -> Sequence[Row]:
        return await self._submit(lambda: self._connection.execute(sql, _named(values)).fetchall())

    async def one(self, sql: str, *values: Value) -> Row | None:
        rows = await self.all(sql, *values)
        return rows[0] if rows else None

    async def run(self, sql: str, *values: Value) -> int:
        return await self._submit(lambda: self._connection.execute(sql, _named(values)).rowcount)

    async def many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        await self._submit(lambda: self._connection.executemany(sql, [_named(row) for row in rows]))

    async def script(self, sql: str) -> None:
        """Several statements, for migrations."""

        def execute() -> None:
            for statement in split_statements(sql):
                self._connection.execute(statement)

        await self._submit(execute)

    async def _submit(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _translated, work)


class SqliteDatabase:
    """A file. Several processes may have it open at once."""

    engine: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(self, file: Path) -> None:
        self.file = file
        self.witness: Witness | None = None
        self._writer = _open(file)
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        self._reader = _open(file)
        self._reader.execute("PRAGMA query_only = 1")
        self._scanner = _open(file)
        self._scanner.execute("PRAGMA query_only = 1")
        self._turn = asyncio.Lock()
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._scan_thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-scan")

    async def all(self, sql: str, *values: Value) -> Sequence[Row]:
        # An indexed look-up takes 11 us here and 322 through a thread, so it stays on the loop.
        return _translated(lambda: self._reader.execute(sql, _named(values)).fetchall())

    async def one(self, sql: str, *values: Value) -> Row | None:
        def first() -> Row | None:
            cursor = self._reader.execute(sql, _named(values))
            row: Row | None = cursor.fetchone()
            cursor.close()  # an unfinished statement would keep its snapshot
            return row

        return _translated(first)

    async def scan(self, sql: str, *values: Value) -> Sequence[Row]:
        def work() -> Sequence[Row]:
            return self._scanner.execute(sql, _named(values)).fetchall()

        return await asyncio.get_running_loop().run_in_executor(self._scan_thread, _translated, work)

    async def version(self) -> object:
        row = await self.one("PRAGMA data_version")
        return None if row is None else row["data_version"]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteConnection]:
        connection = SqliteConnection(self._writer, self._write_thread)
        async with self._turn:
            try:
                await connection.run("BEGIN IMMEDIATE")
                yield connection
                if self.witness is not None:
                    await self.witness.before_commit(connection)
                await connection.run("COMMIT")
            except BaseException:
                await self._roll_back()
                raise
            if self.witness is not None:
                self.witness.committed()

    async def _roll_back(self) -> None:
        """Runs to its end also when the task is cancelled again: the next transaction must find a clean
        writer."""

        def work() -> None:
            # A cancelled COMMIT may have happened all the same.
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")

        done = asyncio.get_running_loop().run_in_executor(self._write_thread, work)
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError:
                continue

    def backup(self, target: Path) -> None:
        """A consistent copy of what is committed, while others go on writing. Blocks: call it in a thread."""
        copy = sqlite3.connect(target)
        source = _open(self.file)
        try:
            source.backup(copy, pages=1024, sleep=0.01)
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            source.close()
            copy.close()

    async def close(self) -> None:
        self._write_thread.shutdown()
        self._scan_thread.shutdown()
        for connection in (self._scanner, self._reader, self._writer):
            connection.close()


def split_statements(sql: str) -> list[str]:
    """The statements of a script; sqlite3 would end the transaction if it were given the script as a
    whole."""
    statements: list[str] = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    if pending.strip():
        raise ValueError("the script ends in the middle of a statement")
    return statements


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = 1")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _named(values: Sequence[Value]) -> dict[str, Value]:
    """SQLite takes `$1` as a name."""
    return {str(place): value for place, value in enumerate(values, 1)}


def _translated(work: Callable[[], T]) -> T:
    try:
        return work()
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode in _CONFLICTS:
            raise ConflictError(str(error)) from error
        raise
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, "the database's disk is full") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise HubError(
                "overloaded", "The database is busy.", hint="Try again in a few seconds."
            ) from error
        raise
