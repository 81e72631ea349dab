"""What operations ask the database: SQL, nothing else. All of it may be long."""

from collections.abc import Sequence

from piste.hub.db.base import Connection, Database, Row

# A NAR that no path, no publication and no push of a stock client speaks of.
_UNUSED = """created_at < $1
    AND NOT EXISTS (SELECT 1 FROM path_info p WHERE p.nar_hash = nar.nar_hash AND p.upstream IS NULL)
    AND NOT EXISTS (SELECT 1 FROM staged_path s WHERE s.nar_hash = nar.nar_hash)
    AND NOT EXISTS (SELECT 1 FROM pushed_nar u WHERE u.nar_hash = nar.nar_hash)"""
_FIND_UNUSED = " ".join(["SELECT nar_hash FROM nar WHERE", _UNUSED])
_REMOVE_UNUSED = " ".join(
    ["DELETE FROM nar WHERE", _UNUSED, "AND nar_hash IN (SELECT value FROM json_each($2))"]
)


async def unused_nars(database: Database, before: int) -> list[str]:
    """Hashes of NARs that nothing refers to and that are older than a moment."""
    return [row["nar_hash"] for row in await database.scan(_FIND_UNUSED, before)]


async def remove_unused_nars(connection: Connection, before: int, hashes_json: str) -> int:
    """Those of a JSON array that still are unused."""
    return await connection.run(_REMOVE_UNUSED, before, hashes_json)


# Which of a JSON array of names are in use, by kind of object; `value` is the name as rows have it.
_USED = {
    "nar": "SELECT nar_hash AS value FROM nar WHERE nar_hash IN (SELECT value FROM json_each($1))",
    "listing": "SELECT nar_hash AS value FROM nar WHERE nar_hash IN (SELECT value FROM json_each($1))",
    "manifest": """SELECT DISTINCT digest AS value FROM manifest
        WHERE digest IN (SELECT value FROM json_each($1))""",
    "source": """SELECT source AS value FROM release WHERE source IN (SELECT value FROM json_each($1))
        UNION SELECT source AS value FROM publication WHERE source IN (SELECT value FROM json_each($1))""",
    # Nothing speaks of a part: it is there for an upload that is under way.
    "part": "SELECT value FROM json_each($1) WHERE value IS NULL",
    "delta": """SELECT object AS value FROM delta
        WHERE object IN (SELECT value FROM json_each($1)) AND size > 0""",
    "log": "SELECT DISTINCT object AS value FROM build_log WHERE object IN (SELECT value FROM json_each($1))",
}
KINDS = tuple(_USED)


async def used(database: Database, kind: str, names_json: str) -> set[str]:
    return {row["value"] for row in await database.scan(_USED[kind], names_json)}


_NOT_OFFERED = """NOT EXISTS (
        SELECT 1 FROM output o JOIN release r ON r.id = o.release
        WHERE o.manifest = delta_pair.{} AND r.project = delta_pair.project AND r.yanked_at IS NULL)"""
_REMOVE_PAIRS = " ".join(
    [
        "DELETE FROM delta_pair WHERE created_at < $1 OR (claimed_at < $2 AND (",
        _NOT_OFFERED.format("base"),
        "OR",
        _NOT_OFFERED.format("target"),
        "))",
    ]
)


async def remove_delta_pairs(connection: Connection, before: int, claimed: int) -> int:
    """Those made before a moment, and those that nobody may be offered any more; with them their deltas'
    rows. Whoever wants one again has it made again."""
    return await connection.run(_REMOVE_PAIRS, before, claimed)


async def nars_after(database: Database, nar_hash: str, limit: int) -> Sequence[Row]:
    return await database.scan(
        """SELECT nar_hash, nar_size, file_hash, file_size FROM nar WHERE nar_hash > $1
           ORDER BY nar_hash LIMIT $2""",
        nar_hash,
        limit,
    )


async def paths_without_nar(database: Database) -> Sequence[Row]:
    return await database.scan(
        """SELECT p.project, p.hash_part, p.name FROM path_info p LEFT JOIN nar n ON n.nar_hash = p.nar_hash
           WHERE p.upstream IS NULL AND n.nar_hash IS NULL ORDER BY p.hash_part"""
    )


async def manifests(database: Database) -> Sequence[Row]:
    return await database.scan(
        "SELECT project, digest, root, path_count FROM manifest ORDER BY project, digest"
    )


async def sources(database: Database) -> Sequence[Row]:
    return await database.scan(
        """SELECT r.source, o.name AS organization, p.name AS project, r.version FROM release r
           JOIN project p ON p.id = r.project JOIN organization o ON o.id = p.organization
           ORDER BY r.source"""
    )


async def logs(database: Database) -> Sequence[Row]:
    return await database.scan("SELECT DISTINCT object FROM build_log ORDER BY object")


async def nar_hashes(database: Database, project: str, hash_parts_json: str) -> dict[str, str]:
    """Hash part -> NarHash, of the paths that a project has."""
    rows = await database.scan(
        """SELECT hash_part, nar_hash FROM path_info
           WHERE project = $1 AND hash_part IN (SELECT value FROM json_each($2))""",
        project,
        hash_parts_json,
    )
    return {row["hash_part"]: row["nar_hash"] for row in rows}


async def projects_of(database: Database, organization: str) -> list[str]:
    rows = await database.scan("SELECT id FROM project WHERE organization = $1 ORDER BY id", organization)
    return [row["id"] for row in rows]


async def paths_after(database: Database, project: str, hash_part: str, limit: int) -> Sequence[Row]:
    return await database.scan(
        """SELECT hash_part, name, nar_hash, nar_size, reference_names, deriver, content_address, signatures,
               upstream, upstream_narinfo
           FROM path_info WHERE project = $1 AND hash_part > $2 ORDER BY hash_part LIMIT $3""",
        project,
        hash_part,
        limit,
    )


async def statements_of(database: Database, organization: str) -> Sequence[Row]:
    return await database.scan(
        """SELECT t.release, t.attribute, t.statement, t.statement_signatures FROM output t
           JOIN release r ON r.id = t.release JOIN project p ON p.id = r.project
           WHERE p.organization = $1 AND t.statement IS NOT NULL ORDER BY t.release, t.attribute""",
        organization,
    )


async def retire_key(connection: Connection, organization: str, name: str, now: int) -> int:
    return await connection.run(
        """UPDATE signing_key SET retired_at = $3, secret = NULL
           WHERE organization = $1 AND name = $2 AND retired_at IS NULL""",
        organization,
        name,
        now,
    )
