"""Brings the tables up to date: numbered scripts, forward only, each recorded with its checksum.

An older process may still be serving while a newer one migrates, so a script only adds; and a process that
finds scripts it does not know yet goes on, since a newer one has run them.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final, Protocol, runtime_checkable

from piste.hub.db.base import Connection, Database
from piste.lib.clock import Clock
from piste.lib.errors import PisteError

_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
# Any number that no other program in the same database is likely to use.
_ADVISORY_LOCK: Final = 0x7069737465

_TABLE: Final = """CREATE TABLE IF NOT EXISTS migration (
    number BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)"""

# SQLite's json_each for PostgreSQL, so that lists go as one parameter on both.
_JSON_EACH: Final = """CREATE OR REPLACE FUNCTION json_each(text) RETURNS TABLE(key text, value text)
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 100 AS
$$ SELECT CAST(ordinality - 1 AS text), value
   FROM jsonb_array_elements_text(CAST($1 AS jsonb)) WITH ORDINALITY $$"""


@runtime_checkable
class TakesScripts(Protocol):
    """A connection that also takes several statements at once; only migrations may."""

    async def script(self, sql: str) -> None: ...


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """The scripts that come with this version, in order."""
    found = []
    for entry in resources.files("piste.hub.db").joinpath("migrations").iterdir():
        if match := _NAME.fullmatch(entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if len(set(numbers)) != len(numbers):
        raise ValueError("two migrations have the same number")
    return found


async def pending(database: Database) -> list[Migration]:
    """What `migrate` would run; on an empty database everything."""
    async with database.transaction() as connection:
        await _prepare(database, connection)
        return await _pending(connection)


async def migrate(database: Database, clock: Clock) -> list[Migration]:
    """Run what is missing, all in one transaction; what was run. Several processes may start at once."""
    async with database.transaction() as connection:
        await _prepare(database, connection)
        missing = await _pending(connection)
        for migration in missing:
            await _script(connection, _dialect(database, migration.sql))
            await connection.run(
                "INSERT INTO migration (number, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
                migration.number,
                migration.name,
                migration.checksum,
                clock(),
            )
    return missing


async def _prepare(database: Database, connection: Connection) -> None:
    if database.engine == "postgresql":
        await connection.one("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
        await connection.run(_JSON_EACH)
    await connection.run(_TABLE)


async def _pending(connection: Connection) -> list[Migration]:
    rows = await connection.all("SELECT number, checksum FROM migration")
    applied: dict[int, str] = {row["number"]: row["checksum"] for row in rows}
    missing = []
    for migration in known_migrations():
        if migration.number not in applied:
            missing.append(migration)
        elif applied[migration.number] != migration.checksum:
            raise PisteError(
                "schema-differs",
                f"Migration {migration.number:04} was run from another text than this version has.",
                hint="This database was made by a version that was never released. Start with an empty one.",
            )
    return missing


def _dialect(database: Database, sql: str) -> str:
    if database.engine == "postgresql":
        return sql.replace("INTEGER PRIMARY KEY", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    return sql


async def _script(connection: Connection, sql: str) -> None:
    if not isinstance(connection, TakesScripts):
        raise TypeError("this connection takes no scripts")
    await connection.script(sql)
