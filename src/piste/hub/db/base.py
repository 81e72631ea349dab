"""What a database gives to the stages. SQL texts are the same for both engines; parameters are `$1`, `$2`, …

Columns are TEXT, BIGINT, BOOLEAN, BYTEA. Time is microseconds since the epoch, given by the caller. JSON is
text that SQL never looks into. Lists are passed as a JSON array in one parameter: `IN (SELECT value FROM
json_each($1))`.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeVar

import msgspec

Value = str | int | bool | bytes | None
S = TypeVar("S", bound=msgspec.Struct)


class Row(Protocol):
    """A row by column name."""

    def __getitem__(self, name: str, /) -> Any: ...
    def keys(self) -> Iterable[str]: ...


def decode(row: Row, into: type[S]) -> S:
    """The row as a Struct with fields of the columns' names; SQLite's 0 and 1 become booleans where the field
    is one."""
    return msgspec.convert({name: row[name] for name in list(row.keys())}, into, strict=False)


class Connection(Protocol):
    """Inside a transaction. Any error ends the transaction."""

    async def all(self, sql: str, *values: Value) -> Sequence[Row]: ...
    async def one(self, sql: str, *values: Value) -> Row | None: ...
    async def run(self, sql: str, *values: Value) -> int:
        """Execute; the number of rows that changed."""
        ...

    async def many(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Execute once for each row of parameters."""
        ...


class Witness(Protocol):
    """Sees every transaction at its end, and may add to it."""

    async def before_commit(self, connection: Connection) -> None: ...
    def committed(self) -> None: ...


class Database(Protocol):
    """A pool. `all` and `one` are for short indexed reads and may run on the event loop; `scan` is for long
    ones."""

    engine: Literal["sqlite", "postgresql"]
    witness: Witness | None

    async def all(self, sql: str, *values: Value) -> Sequence[Row]: ...
    async def one(self, sql: str, *values: Value) -> Row | None: ...
    async def scan(self, sql: str, *values: Value) -> Sequence[Row]: ...

    async def version(self) -> object:
        """Another one whenever something was committed since, by this process or another one."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A writing transaction. What it wrote survives a crash of the process and of the machine once it is
        left without an error; with an error nothing of it stays. A violated unique constraint raises
        ConflictError."""
        ...

    async def close(self) -> None: ...


class ConflictError(Exception):
    """A unique constraint was violated: somebody else was first."""
