"""What rate limits ask the database: SQL, nothing else."""

from collections.abc import Sequence

import msgspec

from piste.hub.db.base import Connection, Database


async def add(connection: Connection, started: int, counts: Sequence[tuple[str, int]]) -> None:
    """Add to the counts of a window, in one order, so that two processes don't deadlock."""
    await connection.many(
        """INSERT INTO rate_window (subject, started_at, count) VALUES ($1, $2, $3)
           ON CONFLICT (subject, started_at) DO UPDATE SET count = rate_window.count + excluded.count""",
        [(subject, started, count) for subject, count in sorted(counts)],
    )


async def totals(database: Database, started: int, subjects: Sequence[str]) -> dict[str, int]:
    rows = await database.scan(
        """SELECT subject, count FROM rate_window
           WHERE started_at = $1 AND subject IN (SELECT value FROM json_each($2))""",
        started,
        msgspec.json.encode(subjects).decode(),
    )
    return {row["subject"]: row["count"] for row in rows}


async def forget(connection: Connection, before: int) -> None:
    await connection.run("DELETE FROM rate_window WHERE started_at < $1", before)
