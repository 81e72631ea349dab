"""What the cache asks the database: SQL, nothing else."""

from collections.abc import Sequence

import msgspec

from piste.hub.access.records import Reach
from piste.hub.cache.keep import KeptNar
from piste.hub.cache.records import FurtherSigned, PathRecord, StoredPath, TraceRecord
from piste.hub.db.base import Connection, Database, Row, Value, decode

_PATH = """SELECT p.project, p.hash_part, p.name, p.nar_hash, p.nar_size, p.reference_names, p.deriver,
    p.content_address, p.signatures, p.upstream, p.upstream_narinfo, p.created_at, n.file_hash, n.file_size
    FROM path_info p LEFT JOIN nar n ON n.nar_hash = p.nar_hash"""
# Led by the organization's projects, so that the time it takes tells nothing of what others have. CROSS JOIN
# keeps SQLite to this order: left alone it reads all paths of the project, and the list once for each.
_PATH_IN_ORGANIZATION = """SELECT p.project, p.hash_part, p.name, p.nar_hash, p.nar_size, p.reference_names,
    p.deriver, p.content_address, p.signatures, p.upstream, p.upstream_narinfo, p.created_at
    FROM project q CROSS JOIN json_each($2) j CROSS JOIN path_info p
    WHERE q.organization = $1 AND p.project = q.id AND p.hash_part = j.value"""

# What others have is left out here already, not after it was read: the time that takes would tell of it.
_IN_REACH = """ JOIN project q ON q.id = p.project
    WHERE (q.visibility = 'public' OR $2 OR q.id IN (SELECT value FROM json_each($4))
        OR q.organization IN (SELECT value FROM json_each($3)))"""
_PATH_IN_REACH = _PATH + _IN_REACH


def as_json(values: Sequence[str]) -> str:
    """A list as one parameter, for `IN (SELECT value FROM json_each($n))`."""
    return msgspec.json.encode(values).decode()


async def path_of_project(database: Database, project: str, hash_part: str) -> StoredPath | None:
    row = await database.one(_PATH + " WHERE p.project = $1 AND p.hash_part = $2", project, hash_part)
    return None if row is None else decode(row, StoredPath)


async def paths_by_hash_part(database: Database, hash_part: str, reach: Reach) -> list[StoredPath]:
    """In every project within reach that has it, the oldest first."""
    sql = _PATH_IN_REACH + " AND p.hash_part = $1 ORDER BY p.created_at, p.project"
    rows = await database.all(sql, hash_part, *_reach(reach))
    return [decode(row, StoredPath) for row in rows]


async def paths_of_project(database: Database, project: str, hash_parts: Sequence[str]) -> list[StoredPath]:
    listed = " WHERE p.project = $1 AND p.hash_part IN (SELECT value FROM json_each($2))"
    rows = await database.scan(_PATH + listed, project, as_json(hash_parts))
    return [decode(row, StoredPath) for row in rows]


async def files_of_project(
    database: Database, project: str, hash_parts: Sequence[str]
) -> dict[str, tuple[str, int]]:
    """By hash part the NAR and the size of its file, of those whose NAR the hub keeps itself."""
    rows = await database.scan(
        """SELECT p.hash_part, p.nar_hash, n.file_size
           FROM path_info p LEFT JOIN nar n ON n.nar_hash = p.nar_hash
           WHERE p.project = $1 AND p.upstream IS NULL
             AND p.hash_part IN (SELECT value FROM json_each($2))""",
        project,
        as_json(hash_parts),
    )
    found = ((row["hash_part"], row["nar_hash"], row["file_size"]) for row in rows)
    return {hash_part: (nar_hash, size) for hash_part, nar_hash, size in found if size is not None}


async def parts_of_project(database: Database, project: str, hash_parts: Sequence[str]) -> list[str]:
    """Those that it has."""
    rows = await database.scan(
        """SELECT hash_part FROM path_info
           WHERE project = $1 AND hash_part IN (SELECT value FROM json_each($2))""",
        project,
        as_json(hash_parts),
    )
    return [row["hash_part"] for row in rows]


async def paths_of_organization(
    database: Database, organization: str, hash_parts: Sequence[str]
) -> list[StoredPath]:
    """In every project of the organization. Looks at nothing that other organizations have, so that the time
    it takes tells nothing of them.
    """
    rows = await database.scan(_PATH_IN_ORGANIZATION, organization, as_json(hash_parts))
    return [decode(row, StoredPath) for row in rows]


async def paths_by_nar(database: Database, nar_hash: str, reach: Reach) -> list[StoredPath]:
    """Every path of every project within reach that has this NAR."""
    rows = await database.all(_PATH_IN_REACH + " AND p.nar_hash = $1", nar_hash, *_reach(reach))
    return [decode(row, StoredPath) for row in rows]


def _reach(reach: Reach) -> tuple[bool, str, str]:
    return reach.everything, as_json(reach.organizations), as_json(reach.projects)


async def paths_of_project_by_nar(database: Database, project: str, nar_hash: str) -> list[StoredPath]:
    rows = await database.all(_PATH + " WHERE p.nar_hash = $2 AND p.project = $1", project, nar_hash)
    return [decode(row, StoredPath) for row in rows]


async def newest_hash_parts(database: Database, project: str, limit: int) -> list[str]:
    rows = await database.scan(
        "SELECT hash_part FROM path_info WHERE project = $1 ORDER BY created_at DESC LIMIT $2", project, limit
    )
    return [row["hash_part"] for row in rows]


async def nar(database: Database, nar_hash: str) -> KeptNar | None:
    row = await database.one(
        "SELECT nar_hash, nar_size, file_hash, file_size FROM nar WHERE nar_hash = $1", nar_hash
    )
    return None if row is None else KeptNar(**dict(row))


async def add_nars(connection: Connection, nars: Sequence[KeptNar], now: int) -> None:
    """A row that is there is written again: that describes the file that lies there now, and keeps the
    collection of garbage from taking the row before this transaction is through.
    """
    await connection.many(
        """INSERT INTO nar (nar_hash, nar_size, file_hash, file_size, created_at) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (nar_hash)
           DO UPDATE SET file_hash = excluded.file_hash, file_size = excluded.file_size""",
        # In one order, so that two uploads of the same NARs wait for one another and don't deadlock.
        sorted((nar.nar_hash, nar.nar_size, nar.file_hash, nar.file_size, now) for nar in nars),
    )
    debug_files = sorted((build_id, nar.nar_hash) for nar in nars for build_id in nar.build_ids)
    if debug_files:
        await connection.many(
            "INSERT INTO debug_file (build_id, nar_hash) VALUES ($1, $2) ON CONFLICT DO NOTHING", debug_files
        )


async def claim_paths(connection: Connection, organization: str, paths: Sequence[PathRecord]) -> list[str]:
    """Fix the content of paths within the organization; the hash parts that it holds with other content.
    Very many are given some at a time, by hash part.
    """
    wanted = {path.hash_part: path.nar_hash for path in paths}
    # In one order, so that two publishers who claim the same paths wait for one another and don't deadlock.
    claims = sorted(wanted.items())
    await connection.many(
        """INSERT INTO organization_path (organization, hash_part, nar_hash) VALUES ($1, $2, $3)
           ON CONFLICT (organization, hash_part) DO NOTHING""",
        [(organization, hash_part, nar_hash) for hash_part, nar_hash in claims],
    )
    rows = await connection.all(
        """SELECT hash_part, nar_hash FROM organization_path
           WHERE organization = $1 AND hash_part IN (SELECT value FROM json_each($2))""",
        organization,
        as_json(list(wanted)),
    )
    return [row["hash_part"] for row in rows if wanted[row["hash_part"]] != row["nar_hash"]]


async def add_paths(connection: Connection, project: str, paths: Sequence[PathRecord], now: int) -> None:
    """What the project says of a path already stays as it is. Their signatures are those that are served;
    very many are given some at a time, by hash part.
    """
    await connection.many(
        """INSERT INTO path_info (project, hash_part, name, nar_hash, nar_size, reference_names, deriver,
               content_address, signatures, upstream, upstream_narinfo, created_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
           ON CONFLICT (project, hash_part) DO NOTHING""",
        [(project, *path_values(path), now) for path in sorted(paths, key=lambda path: path.hash_part)],
    )


async def replace_signatures(connection: Connection, paths: Sequence[FurtherSigned]) -> None:
    """Where they are still those that the new ones were made from."""
    await connection.many(
        """UPDATE path_info SET signatures = $3
           WHERE project = $1 AND hash_part = $2 AND signatures = $4""",
        [(path.project, path.hash_part, path.signatures, path.before) for path in paths],
    )


async def pushed_nar(database: Database, project: str, file_name: str) -> Row | None:
    return await database.one(
        """SELECT q.nar_hash, q.nar_size, n.file_hash, n.file_size FROM pushed_nar q
           JOIN nar n ON n.nar_hash = q.nar_hash WHERE q.project = $1 AND q.file_name = $2""",
        project,
        file_name,
    )


async def add_pushed_nar(
    connection: Connection, project: str, file_name: str, kept: KeptNar, now: int
) -> None:
    await connection.run(
        """INSERT INTO pushed_nar (project, file_name, nar_hash, nar_size, file_hash, created_at)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project, file_name)
           DO UPDATE SET nar_hash = excluded.nar_hash, nar_size = excluded.nar_size,
               file_hash = excluded.file_hash, created_at = excluded.created_at""",
        project,
        file_name,
        kept.nar_hash,
        kept.nar_size,
        kept.file_hash,
        now,
    )


async def forget_pushed_nars(connection: Connection, before: int) -> int:
    """Those that no narinfo has described since; a client may still know a described one by its first
    address.
    """
    return await connection.run(
        """DELETE FROM pushed_nar WHERE created_at < $1 AND NOT EXISTS (
               SELECT 1 FROM path_info p
               WHERE p.nar_hash = pushed_nar.nar_hash AND p.project = pushed_nar.project)""",
        before,
    )


# Of a project ($1), or ('') of all within reach.
_OF_PROJECT_OR_IN_REACH = """ JOIN project q ON q.id = t.project
    WHERE (q.id = $1 OR $1 = '' AND (q.visibility = 'public' OR $2
        OR q.id IN (SELECT value FROM json_each($4))
        OR q.organization IN (SELECT value FROM json_each($3))))"""
_TRACE = "SELECT t.project, t.out_path, t.dependents, t.signatures FROM build_trace t"
_TRACE_FOR_READERS = _TRACE + _OF_PROJECT_OR_IN_REACH + " AND t.drv = $5 AND t.output = $6"
_LOG = "SELECT t.project, t.object FROM build_log t"
_LOG_FOR_READERS = _LOG + _OF_PROJECT_OR_IN_REACH + " AND t.drv_name = $5"
_DEBUG = "SELECT DISTINCT t.nar_hash FROM debug_file d JOIN path_info t ON t.nar_hash = d.nar_hash"
_DEBUG_FOR_READERS = (
    _DEBUG
    + _OF_PROJECT_OR_IN_REACH
    + " AND d.build_id = $5 AND t.upstream IS NULL ORDER BY t.nar_hash LIMIT 10"
)


async def traces(database: Database, project: str, reach: Reach, drv: str, output: str) -> list[TraceRecord]:
    """What is said of an output of a derivation: by a project, or ('') by all within reach."""
    rows = await database.all(_TRACE_FOR_READERS, project, *_reach(reach), drv, output)
    return [decode(row, TraceRecord) for row in rows]


async def traced_in_organization(
    connection: Connection, organization: str, drv: str, output: str
) -> list[TraceRecord]:
    rows = await connection.all(
        _TRACE + " JOIN project q ON q.id = t.project WHERE q.organization = $1 AND drv = $2 AND output = $3",
        organization,
        drv,
        output,
    )
    return [decode(row, TraceRecord) for row in rows]


async def add_trace(connection: Connection, drv: str, output: str, record: TraceRecord, now: int) -> None:
    """With the signatures that it has now, where it was there already."""
    await connection.run(
        """INSERT INTO build_trace (project, drv, output, out_path, dependents, signatures, created_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project, drv, output)
           DO UPDATE SET signatures = excluded.signatures""",
        record.project,
        drv,
        output,
        record.out_path,
        record.dependents,
        record.signatures,
        now,
    )


async def log_objects(database: Database, project: str, reach: Reach, drv_name: str) -> Sequence[Row]:
    """Project and object of the logs of a derivation, of a project or ('') of all within reach."""
    return await database.all(_LOG_FOR_READERS, project, *_reach(reach), drv_name)


async def nars_with_debug_file(database: Database, project: str, reach: Reach, build_id: str) -> list[str]:
    """NARs that the hub holds for a project, or ('') for any within reach: what others have is left out
    here, as the time that it takes to look at each would tell of it."""
    rows = await database.all(_DEBUG_FOR_READERS, project, *_reach(reach), build_id)
    return [row["nar_hash"] for row in rows]


async def add_log(connection: Connection, project: str, drv_name: str, object_key: str, now: int) -> None:
    await connection.run(
        """INSERT INTO build_log (project, drv_name, object, created_at) VALUES ($1, $2, $3, $4)
           ON CONFLICT (project, drv_name)
           DO UPDATE SET object = excluded.object, created_at = excluded.created_at""",
        project,
        drv_name,
        object_key,
        now,
    )


async def has_manifest(database: Database, project: str, digest: str) -> bool:
    row = await database.one(
        "SELECT 1 AS there FROM manifest WHERE project = $1 AND digest = $2", project, digest
    )
    return row is not None


async def upstreams(database: Database, organization: str) -> dict[str, list[str]]:
    """Address → public keys, as the organization registered them."""
    rows = await database.all("SELECT url, public_keys FROM upstream WHERE organization = $1", organization)
    return {row["url"]: msgspec.json.decode(row["public_keys"], type=list[str]) for row in rows}


def path_values(path: PathRecord) -> tuple[Value, ...]:
    """What is said of a path, in the order of the columns from `hash_part` to `upstream_narinfo`."""
    return (
        path.hash_part,
        path.name,
        path.nar_hash,
        path.nar_size,
        path.reference_names,
        path.deriver,
        path.content_address,
        path.signatures,
        path.upstream,
        path.upstream_narinfo,
    )
