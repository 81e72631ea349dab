"""What a publication asks the database: SQL, nothing else."""

from collections.abc import AsyncIterator, Sequence

from piste.hub.cache.queries import as_json, path_values
from piste.hub.db.base import Connection, Database, Row, Value, decode
from piste.hub.publish.records import PublicationRow, StagedOutput, StagedPath, UploadAddress
from piste.lib.spooled import PAGE

_PUBLICATION = """SELECT id, project, stage, version, rolling, metadata, state, source, source_size, readme,
    source_license, created_at, expires_at, sequence, kind FROM publication"""
_STAGED = """SELECT hash_part, name, nar_hash, nar_size, reference_names, deriver, content_address,
    signatures, upstream, upstream_narinfo, state FROM staged_path"""
_BY_HASH_PART = (
    " WHERE publication = $1 AND hash_part IN (SELECT value FROM json_each($2)) ORDER BY hash_part"
)


async def publication(database: Database, project: str, publication_id: str) -> PublicationRow | None:
    row = await database.one(f"{_PUBLICATION} WHERE id = $1 AND project = $2", publication_id, project)
    return None if row is None else decode(row, PublicationRow)


async def publication_of_stage(connection: Connection, project: str, stage: str) -> PublicationRow | None:
    row = await connection.one(f"{_PUBLICATION} WHERE project = $1 AND stage = $2", project, stage)
    return None if row is None else decode(row, PublicationRow)


async def release_stage_name(connection: Connection, publication_id: str) -> None:
    await connection.run("UPDATE publication SET stage = NULL WHERE id = $1", publication_id)


async def add_publication(connection: Connection, row: PublicationRow, created_by: str | None) -> None:
    await connection.run(
        """INSERT INTO publication (id, project, stage, version, rolling, metadata, state, created_by,
               created_at, expires_at, kind) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        row.id,
        row.project,
        row.stage,
        row.version,
        row.rolling,
        row.metadata,
        row.state,
        created_by,
        row.created_at,
        row.expires_at,
        row.kind,
    )


async def bind_to_session(connection: Connection, token: str, publication_id: str) -> None:
    """From now on the session may fill and finish it."""
    await connection.run(
        """INSERT INTO session_publication (token, publication) VALUES ($1, $2)
           ON CONFLICT (token, publication) DO NOTHING""",
        token,
        publication_id,
    )


async def is_of_session(database: Database, token: str, publication_id: str) -> bool:
    row = await database.one(
        "SELECT 1 AS one FROM session_publication WHERE token = $1 AND publication = $2",
        token,
        publication_id,
    )
    return row is not None


async def bind_to_identity(connection: Connection, use: str, publication_id: str) -> None:
    """From now on the identity may fill it, and finish it also when it has expired a moment ago."""
    await connection.run(
        """INSERT INTO identity_publication (use, publication) VALUES ($1, $2)
           ON CONFLICT (use, publication) DO NOTHING""",
        use,
        publication_id,
    )


async def is_of_identity(database: Database, use: str, publication_id: str) -> bool:
    row = await database.one(
        "SELECT 1 AS one FROM identity_publication WHERE use = $1 AND publication = $2", use, publication_id
    )
    return row is not None


async def project_of(database: Database, publication_id: str) -> str | None:
    """The project (id) of a publication."""
    row = await database.one("SELECT project FROM publication WHERE id = $1", publication_id)
    return None if row is None else row["project"]


async def delete_publication(connection: Connection, publication_id: str) -> None:
    await connection.run("DELETE FROM publication WHERE id = $1", publication_id)


async def expired_publications(database: Database, now: int) -> list[tuple[str, str]]:
    """Publication and project (ids)."""
    rows = await database.all("SELECT id, project FROM publication WHERE expires_at <= $1", now)
    return [(row["id"], row["project"]) for row in rows]


async def hold_project(connection: Connection, project: str) -> bool:
    """Whether it is there; it then is to the end of the transaction."""
    return await connection.run("UPDATE project SET sequence = sequence WHERE id = $1", project) == 1


async def add_document(connection: Connection, publication_id: str, document: str) -> None:
    await connection.run(
        "INSERT INTO publication_document (publication, document) VALUES ($1, $2)", publication_id, document
    )


async def hand_over_document(connection: Connection, publication_id: str, release: str) -> None:
    """What a publication came with, if anything, is the release's from now on."""
    await connection.run(
        """INSERT INTO release_document (release, document)
           SELECT $2, document FROM publication_document WHERE publication = $1""",
        publication_id,
        release,
    )


async def add_upload_address(connection: Connection, hashed: bytes, address: UploadAddress) -> None:
    await connection.run(
        """INSERT INTO upload_address (hash, publication, size, digest, staged_by, expires_at)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        hashed,
        address.publication,
        address.size,
        address.digest,
        address.staged_by,
        address.expires_at,
    )


async def upload_address(database: Database, hashed: bytes) -> UploadAddress | None:
    row = await database.one(
        """SELECT a.publication, p.project, a.size, a.digest, a.staged_by, a.expires_at, a.used_at
           FROM upload_address a JOIN publication p ON p.id = a.publication WHERE a.hash = $1""",
        hashed,
    )
    return None if row is None else decode(row, UploadAddress)


async def use_upload_address(connection: Connection, hashed: bytes, now: int) -> bool:
    """False when another upload was first."""
    changed = await connection.run(
        "UPDATE upload_address SET used_at = $2 WHERE hash = $1 AND used_at IS NULL", hashed, now
    )
    return changed == 1


async def stage_paths(connection: Connection, publication_id: str, paths: Sequence[StagedPath]) -> None:
    """Declared anew is only what was not there yet."""
    await connection.many(
        """INSERT INTO staged_path (publication, hash_part, name, nar_hash, nar_size, reference_names,
               deriver, content_address, signatures, upstream, upstream_narinfo, state)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
           ON CONFLICT (publication, hash_part) DO UPDATE SET name = excluded.name,
               nar_hash = excluded.nar_hash, nar_size = excluded.nar_size,
               reference_names = excluded.reference_names, deriver = excluded.deriver,
               content_address = excluded.content_address, signatures = excluded.signatures,
               upstream = excluded.upstream, upstream_narinfo = excluded.upstream_narinfo,
               state = excluded.state
           WHERE staged_path.state = 'missing'""",
        [
            (publication_id, *path_values(path), path.state)
            for path in sorted(paths, key=lambda path: path.hash_part)
        ],
    )


async def staged_outputs(database: Database | Connection, publication_id: str) -> list[StagedOutput]:
    rows = await database.all(
        """SELECT attribute, store_path, system, required FROM staged_output WHERE publication = $1""",
        publication_id,
    )
    return sorted((decode(row, StagedOutput) for row in rows), key=lambda output: output.attribute)


async def stage_outputs(connection: Connection, publication_id: str, outputs: Sequence[StagedOutput]) -> None:
    """An output that is required once stays so."""
    await connection.many(
        """INSERT INTO staged_output (publication, attribute, store_path, system, required)
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT (publication, attribute)
           DO UPDATE SET required = staged_output.required OR excluded.required""",
        [(publication_id, each.attribute, each.store_path, each.system, each.required) for each in outputs],
    )


def staged_rows(database: Database, publication_id: str) -> AsyncIterator[Sequence[Row]]:
    """Rows of StagedPath, some at a time. What changes meanwhile is seen as it was or as it is."""
    return _paged(database, _STAGED, publication_id)


def staged_nars(database: Database, publication_id: str) -> AsyncIterator[Sequence[Row]]:
    """hash_part, nar_hash, nar_size; some at a time."""
    return _paged(database, "SELECT hash_part, nar_hash, nar_size FROM staged_path", publication_id)


async def _paged(database: Database, sql: str, publication_id: str) -> AsyncIterator[Sequence[Row]]:
    last = ""
    while rows := await database.scan(
        f"{sql} WHERE publication = $1 AND hash_part > $2 ORDER BY hash_part LIMIT $3",
        publication_id,
        last,
        PAGE,
    ):
        yield rows
        last = rows[-1]["hash_part"]


async def staged_rows_of(database: Database, publication_id: str, hash_parts: Sequence[str]) -> Sequence[Row]:
    """Rows of StagedPath, by hash part."""
    return await database.scan(
        _STAGED + _BY_HASH_PART,
        publication_id,
        as_json(hash_parts),
    )


def staged_paths(rows: Sequence[Row]) -> list[StagedPath]:
    return [decode(row, StagedPath) for row in rows]


async def take_over_verified(
    connection: Connection,
    publication: PublicationRow,
    person: str | None,
    hash_parts: Sequence[str],
    now: int,
) -> None:
    """Of missing paths those are verified whose NARs came to another open publication of the project, by the
    same person, and which were declared there in the same words: it was cut off, and is begun anew."""
    await connection.run(
        """UPDATE staged_path SET state = 'verified'
           WHERE publication = $1 AND state = 'missing' AND hash_part IN (SELECT value FROM json_each($5))
               AND EXISTS (
                   SELECT 1 FROM staged_path o JOIN publication p ON p.id = o.publication
                   WHERE o.nar_hash = staged_path.nar_hash AND o.hash_part = staged_path.hash_part
                       AND o.name = staged_path.name AND o.nar_size = staged_path.nar_size
                       AND o.reference_names = staged_path.reference_names AND o.state = 'verified'
                       AND p.project = $2 AND p.state = 'open' AND p.expires_at > $4
                       AND COALESCE(p.created_by, '') = $3)""",
        publication.id,
        publication.project,
        person or "",
        now,
        as_json(hash_parts),
    )


async def staged_states(database: Database, publication_id: str, hash_parts: Sequence[str]) -> Sequence[Row]:
    return await database.scan(
        """SELECT hash_part, name, state FROM staged_path
           WHERE publication = $1 AND hash_part IN (SELECT value FROM json_each($2))""",
        publication_id,
        as_json(hash_parts),
    )


async def mark_verified(connection: Connection, publication_id: str, paths: Sequence[StagedPath]) -> None:
    """Only what is still declared exactly as it was when the NAR was scanned."""
    await connection.many(
        """UPDATE staged_path SET state = 'verified' WHERE publication = $1 AND hash_part = $2
               AND nar_hash = $3 AND nar_size = $4 AND reference_names = $5 AND state = 'missing'""",
        [
            (publication_id, path.hash_part, path.nar_hash, path.nar_size, path.reference_names)
            for path in sorted(paths, key=lambda path: path.hash_part)
        ],
    )


async def set_source(connection: Connection, publication_id: str, values: Sequence[Value]) -> int:
    """source, source_size, readme, source_license; the number of publications that took it (0: not open, or
    it has another source).
    """
    return await connection.run(
        """UPDATE publication SET source = $2, source_size = $3, readme = $4, source_license = $5
           WHERE id = $1 AND state = 'open' AND (source IS NULL OR source = $2)""",
        publication_id,
        *values,
    )


async def hold_open(connection: Connection, publication_id: str) -> bool:
    """Whether it still takes something; it then does to the end of the transaction."""
    changed = await connection.run(
        "UPDATE publication SET state = 'open' WHERE id = $1 AND state = 'open'", publication_id
    )
    return changed == 1


async def close(connection: Connection, publication_id: str) -> bool:
    """open → finished; False when somebody else was first."""
    changed = await connection.run(
        "UPDATE publication SET state = 'finished' WHERE id = $1 AND state = 'open'", publication_id
    )
    return changed == 1


async def next_sequence(connection: Connection, project: str) -> int | None:
    """The project's next number; other publishers of the project wait here until this one is done. None when
    the project is gone.
    """
    row = await connection.one(
        "UPDATE project SET sequence = sequence + 1 WHERE id = $1 RETURNING sequence", project
    )
    return None if row is None else row["sequence"]


async def reserve_sequence(connection: Connection, project: str, publication_id: str) -> int | None:
    """A number for a release that its publisher is about to sign. It stays unused if the publication is
    abandoned: numbers only have to grow.
    """
    sequence = await next_sequence(connection, project)
    await connection.run("UPDATE publication SET sequence = $2 WHERE id = $1", publication_id, sequence)
    return sequence


async def settle_project(connection: Connection, project: str) -> None:
    """It has a release, so it stays."""
    await connection.run("UPDATE project SET provisional = FALSE WHERE id = $1 AND provisional", project)


async def is_newest_sequence(connection: Connection, project: str, sequence: int) -> bool:
    """Whether no release of the project has this number or a later one; until the end of the transaction
    none gets one.
    """
    await connection.run("UPDATE project SET sequence = sequence WHERE id = $1", project)
    row = await connection.one(
        "SELECT 1 AS there FROM release WHERE project = $1 AND sequence >= $2", project, sequence
    )
    return row is None


async def add_release(connection: Connection, values: Sequence[Value]) -> None:
    """The columns in the order of the statement; ConflictError when the version is there."""
    await connection.run(
        """INSERT INTO release (id, project, version, sort, sequence, pre, rolling, content, source,
               source_size, description, labels, license, repository, subdirectory, revision, commit_count,
               readme, published_by, published_at, mirrored)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
               $20, $21)""",
        *values,
    )


async def add_outputs(connection: Connection, rows: Sequence[Sequence[Value]]) -> None:
    """release, attribute, store_path, system, manifest, statement, statement_signatures"""
    await connection.many(
        """INSERT INTO output (release, attribute, store_path, system, manifest, statement,
               statement_signatures) VALUES ($1, $2, $3, $4, $5, $6, $7)""",
        rows,
    )


async def release_of_version(database: Database | Connection, project: str, sort: bytes) -> Row | None:
    return await database.one(
        "SELECT id, version, content, revision FROM release WHERE project = $1 AND sort = $2", project, sort
    )


async def available_outputs(database: Database, release: str) -> dict[str, str]:
    rows = await database.all(
        "SELECT attribute, store_path FROM output WHERE release = $1 AND manifest IS NOT NULL", release
    )
    return {row["attribute"]: row["store_path"] for row in sorted(rows, key=lambda row: row["attribute"])}
