"""What plans ask the database: SQL, nothing else."""

from collections.abc import Sequence

from piste.hub.db.base import Connection, Database, Row, decode
from piste.hub.plan.records import Asked, DeltaRow, PairRow

_DELTA = "SELECT number, places, bases, renamed, file_size, object, size FROM delta"


async def pair(database: Database, asked: Asked) -> PairRow | None:
    row = await database.one(
        """SELECT places, bases, claimed_at FROM delta_pair
           WHERE project = $1 AND base = $2 AND target = $3""",
        asked.project,
        asked.base,
        asked.target,
    )
    return None if row is None else decode(row, PairRow)


async def base_count(database: Database, asked: Asked) -> int:
    """How many manifests the target has deltas against."""
    rows = await database.all(
        "SELECT count(*) AS n FROM delta_pair WHERE project = $1 AND target = $2", asked.project, asked.target
    )
    return int(rows[0]["n"])


async def claim(connection: Connection, asked: Asked, pair: PairRow, stale: int) -> bool:
    """Whether the pair's deltas are ours to make: nobody has claimed them since `stale`."""
    changed = await connection.run(
        """INSERT INTO delta_pair (project, base, target, places, bases, claimed_at, created_at)
           VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (project, base, target)
           DO UPDATE SET claimed_at = excluded.claimed_at WHERE delta_pair.claimed_at < $7""",
        asked.project,
        asked.base,
        asked.target,
        pair.places,
        pair.bases,
        pair.claimed_at,
        stale,
    )
    return changed > 0


async def add_deltas(connection: Connection, asked: Asked, rows: Sequence[DeltaRow]) -> None:
    """Those that are there already stay."""
    await connection.many(
        """INSERT INTO delta (project, base, target, number, places, bases, renamed, file_size, object)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
           ON CONFLICT (project, base, target, number) DO NOTHING""",
        [
            (
                asked.project,
                asked.base,
                asked.target,
                row.number,
                row.places,
                row.bases,
                row.renamed,
                row.file_size,
                row.object,
            )
            for row in rows
        ],
    )


async def deltas(database: Database | Connection, asked: Asked) -> list[DeltaRow]:
    """In their order."""
    rows = await database.all(
        _DELTA + " WHERE project = $1 AND base = $2 AND target = $3 ORDER BY number",
        asked.project,
        asked.base,
        asked.target,
    )
    return [decode(row, DeltaRow) for row in rows]


async def delta(database: Database, asked: Asked, number: int) -> DeltaRow | None:
    row = await database.one(
        _DELTA + " WHERE project = $1 AND base = $2 AND target = $3 AND number = $4",
        asked.project,
        asked.base,
        asked.target,
        number,
    )
    return None if row is None else decode(row, DeltaRow)


async def size_of(database: Database, project: str, object_: str) -> int | None:
    """Of a delta that was made for another pair already, 0 where it was not worth having."""
    row = await database.one(
        "SELECT size FROM delta WHERE object = $2 AND project = $1 AND size IS NOT NULL LIMIT 1",
        project,
        object_,
    )
    return None if row is None else row["size"]


async def made(connection: Connection, asked: Asked, number: int, size: int, now: int) -> None:
    """A delta is there, or (0) is not worth having."""
    await connection.run(
        "UPDATE delta SET size = $5 WHERE project = $1 AND base = $2 AND target = $3 AND number = $4",
        asked.project,
        asked.base,
        asked.target,
        number,
        size,
    )
    await connection.run(
        "UPDATE delta_pair SET claimed_at = $4 WHERE project = $1 AND base = $2 AND target = $3",
        asked.project,
        asked.base,
        asked.target,
        now,
    )


async def releases_since(database: Database, id_: str, limit: int) -> Sequence[Row]:
    """Releases whose id is higher; ids begin with the time."""
    return await database.all(
        "SELECT id, project, sequence FROM release WHERE id > $1 ORDER BY id LIMIT $2", id_, limit
    )


async def manifests_of_release(database: Database, release: str) -> Sequence[Row]:
    return await database.all(
        "SELECT attribute, manifest FROM output WHERE release = $1 AND manifest IS NOT NULL", release
    )


async def manifest_before(database: Database, project: str, sequence: int, attribute: str) -> str | None:
    """Of the same output in the release before."""
    rows = await database.scan(
        """SELECT o.manifest FROM release r JOIN output o ON o.release = r.id
           WHERE r.project = $1 AND r.sequence < $2 AND r.yanked_at IS NULL
               AND o.attribute = $3 AND o.manifest IS NOT NULL
           ORDER BY r.sequence DESC LIMIT 1""",
        project,
        sequence,
        attribute,
    )
    return rows[0]["manifest"] if rows else None
