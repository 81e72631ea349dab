"""What the registry asks the database: SQL, nothing else."""

from collections.abc import Sequence

import msgspec

from piste.hub.cache.queries import as_json
from piste.hub.db.base import Connection, Database, Row, decode
from piste.hub.registry.records import OutputRow, ReleaseRow, ReleaseSaid

# Above every sort key.
TOP = b"\xff" * 64

_RELEASE = """SELECT id, version, sort, sequence, rolling, source, source_size, revision, commit_count,
    published_at, yanked_at, yank_reason FROM release"""


async def add_project(
    connection: Connection,
    project: str,
    organization: str,
    name: str,
    visibility: str,
    now: int,
    *,
    provisional: bool = False,
) -> None:
    """ConflictError when the organization has one of that name."""
    await connection.run(
        """INSERT INTO project (id, organization, name, visibility, sequence, created_at, provisional)
           VALUES ($1, $2, $3, $4, 0, $5, $6)""",
        project,
        organization,
        name,
        visibility,
        now,
        provisional,
    )
    await fill_pending(connection, project, organization, name)


async def provisional_projects(database: Database, before: int) -> list[str]:
    """Ids of those that are older than a moment."""
    rows = await database.all("SELECT id FROM project WHERE provisional AND created_at < $1", before)
    return [row["id"] for row in rows]


async def remove_provisional(connection: Connection, project: str) -> None:
    """A project that was made for its first release goes when nothing is left in it; trust in those who
    publish to it waits for the next one of that name.
    """
    # Two statements: whoever opens a publication holds the same row, and only the second one sees it then.
    if not await connection.run(
        "UPDATE project SET sequence = sequence WHERE id = $1 AND provisional", project
    ):
        return
    empty = await connection.one(
        """SELECT 1 AS one FROM project p WHERE p.id = $1
               AND NOT EXISTS (SELECT 1 FROM release r WHERE r.project = p.id)
               AND NOT EXISTS (SELECT 1 FROM publication q WHERE q.project = p.id)
               AND NOT EXISTS (SELECT 1 FROM path_info i WHERE i.project = p.id)
               AND NOT EXISTS (SELECT 1 FROM pushed_nar n WHERE n.project = p.id)
               AND NOT EXISTS (SELECT 1 FROM token t WHERE t.project = p.id AND t.kind <> 'session')""",
        project,
    )
    if empty is None:
        return
    await connection.run("UPDATE trust_rule SET project = NULL WHERE project = $1", project)
    await connection.run("UPDATE token SET project = NULL WHERE project = $1 AND kind = 'session'", project)
    await connection.run("DELETE FROM project WHERE id = $1", project)


async def fill_pending(connection: Connection, project: str, organization: str, name: str) -> None:
    """Trust that waited for a project of this name, and sessions that came of it, now mean this one."""
    await connection.run(
        """UPDATE trust_rule SET project = $1
           WHERE organization = $2 AND lower(project_name) = $3 AND project IS NULL""",
        project,
        organization,
        name.lower(),
    )
    await connection.run(
        """UPDATE token SET project = $1 WHERE organization = $2 AND kind = 'session' AND project IS NULL
               AND id IN (SELECT token FROM publication_session WHERE lower(project_name) = $3)""",
        project,
        organization,
        name.lower(),
    )


async def set_visibility(connection: Connection, project: str, visibility: str) -> None:
    await connection.run(
        "UPDATE project SET visibility = $2, provisional = FALSE WHERE id = $1", project, visibility
    )


_KEEP_NAMES = """INSERT INTO deleted_release (id, project, project_name, organization, visibility, version,
        project_created_at, deleted_at)
    SELECT r.id, p.id, p.name, p.organization, p.visibility, r.version, p.created_at, $2
    FROM release r JOIN project p ON p.id = r.project"""
_KEEP_NAMES_OF_PROJECT = _KEEP_NAMES + " WHERE p.id = $1"
_KEEP_NAME_OF_RELEASE = _KEEP_NAMES + " WHERE r.id = $1"


async def delete_project(connection: Connection, project: str, now: int) -> None:
    """With all that it says, but for the names of its releases; bytes stay until they are collected."""
    await connection.run(_KEEP_NAMES_OF_PROJECT, project, now)
    await connection.run(
        """UPDATE deleted_release SET visibility = (SELECT p.visibility FROM project p WHERE p.id = $1)
           WHERE project = $1""",
        project,
    )
    await connection.run("DELETE FROM project WHERE id = $1", project)


async def delete_release(connection: Connection, project: str, release: str, now: int) -> None:
    """With its outputs, and the manifests that no other release of the project has."""
    await connection.run(_KEEP_NAME_OF_RELEASE, release, now)
    await connection.run(
        """DELETE FROM manifest WHERE project = $1
               AND digest IN (SELECT t.manifest FROM output t WHERE t.release = $2)
               AND NOT EXISTS (SELECT 1 FROM output u JOIN release r ON r.id = u.release
                   WHERE r.project = $1 AND r.id <> $2 AND u.manifest = manifest.digest)""",
        project,
        release,
    )
    await connection.run("DELETE FROM release WHERE id = $1 AND project = $2", release, project)


async def deleted_versions(connection: Connection, project: str) -> list[str]:
    rows = await connection.all("SELECT version FROM deleted_release WHERE project = $1", project)
    return [row["version"] for row in rows]


async def was_deleted(database: Database, project: str, release: str, version: str) -> bool:
    """Whether a project had this release, whether or not it is still there itself."""
    row = await database.one(
        "SELECT 1 AS there FROM deleted_release WHERE id = $2 AND project = $1 AND version = $3",
        project,
        release,
        version,
    )
    return row is not None


async def latest_releases(database: Database, projects: Sequence[str]) -> dict[str, Row]:
    """The highest release of each project, with what its publisher said of it; pre-releases only where there
    is nothing else to show.
    """
    rows = await database.scan(
        """SELECT p.id AS project, r.version, r.description, r.labels FROM project p
           JOIN release r ON r.id = COALESCE(
               (SELECT x.id FROM release x WHERE x.project = p.id AND x.yanked_at IS NULL AND NOT x.pre
                ORDER BY x.sort DESC LIMIT 1),
               (SELECT y.id FROM release y WHERE y.project = p.id AND y.yanked_at IS NULL
                ORDER BY y.sort DESC LIMIT 1))
           WHERE p.id IN (SELECT value FROM json_each($1))""",
        as_json(projects),
    )
    return {row["project"]: row for row in rows}


async def highest_release(
    database: Database, project: str, low: bytes | None, high: bytes | None
) -> ReleaseRow | None:
    """The highest release in a range of sort keys that is neither yanked nor a pre-release: one look-up."""
    row = await database.one(
        _RELEASE
        + """ WHERE project = $1 AND sort >= $2 AND sort < $3 AND yanked_at IS NULL AND NOT pre
            ORDER BY sort DESC LIMIT 1""",
        project,
        low or b"",
        high or TOP,
    )
    return None if row is None else decode(row, ReleaseRow)


async def prereleases(database: Database, project: str, low: bytes, high: bytes) -> list[ReleaseRow]:
    """Pre-releases that are not yanked in a range of sort keys, the highest first."""
    rows = await database.all(
        _RELEASE
        + """ WHERE project = $1 AND sort >= $2 AND sort < $3 AND yanked_at IS NULL AND pre
            ORDER BY sort DESC""",
        project,
        low,
        high,
    )
    return [decode(row, ReleaseRow) for row in rows]


async def release_by_sort(database: Database, project: str, sort: bytes) -> ReleaseRow | None:
    row = await database.one(_RELEASE + " WHERE project = $1 AND sort = $2", project, sort)
    return None if row is None else decode(row, ReleaseRow)


async def release_by_id(database: Database, project: str, release: str) -> ReleaseRow | None:
    row = await database.one(_RELEASE + " WHERE id = $2 AND project = $1", project, release)
    return None if row is None else decode(row, ReleaseRow)


async def releases(
    database: Database, project: str, low: bytes | None, high: bytes | None, limit: int
) -> list[ReleaseRow]:
    """All in a range of sort keys, yanked ones and pre-releases too, the highest first."""
    rows = await database.scan(
        _RELEASE + " WHERE project = $1 AND sort >= $2 AND sort < $3 ORDER BY sort DESC LIMIT $4",
        project,
        low or b"",
        high or TOP,
        limit,
    )
    return [decode(row, ReleaseRow) for row in rows]


async def newest_releases(database: Database, project: str, start: int, count: int) -> list[ReleaseRow]:
    """In the order of publication, the last one first."""
    rows = await database.scan(
        _RELEASE + " WHERE project = $1 ORDER BY published_at DESC, sequence DESC LIMIT $3 OFFSET $2",
        project,
        start,
        count,
    )
    return [decode(row, ReleaseRow) for row in rows]


async def release_count(database: Database, project: str) -> int:
    row = await database.one("SELECT count(*) AS n FROM release WHERE project = $1", project)
    return 0 if row is None else row["n"]


async def place_of(database: Database, project: str, published_at: int) -> tuple[int, int]:
    """The place of a release among those of its project, the newest first and from 1; and how many they
    are."""
    row = await database.one(
        """SELECT sum(CASE WHEN published_at >= $2 THEN 1 ELSE 0 END) AS place, count(*) AS total
           FROM release WHERE project = $1""",
        project,
        published_at,
    )
    return (0, 0) if row is None else (row["place"], row["total"])


async def release_said(database: Database, release: str) -> ReleaseSaid | None:
    row = await database.one(
        """SELECT description, labels, license, repository, subdirectory, readme, mirrored FROM release
           WHERE id = $1""",
        release,
    )
    return None if row is None else decode(row, ReleaseSaid)


async def publisher_of(database: Database, release: str) -> str | None:
    """The person (id) who published it; None for a CI."""
    row = await database.one("SELECT published_by FROM release WHERE id = $1", release)
    return None if row is None else row["published_by"]


async def release_document(database: Database, release: str) -> str | None:
    """What a client of another dialect said of it, to the letter."""
    row = await database.one("SELECT document FROM release_document WHERE release = $1", release)
    return None if row is None else row["document"]


async def set_yank(connection: Connection, release: str, when: int | None, reason: str | None) -> None:
    await connection.run(
        "UPDATE release SET yanked_at = $2, yank_reason = $3 WHERE id = $1", release, when, reason
    )


_OUTPUT = "SELECT attribute, store_path, system, manifest, statement, statement_signatures FROM output"


async def output(database: Database, release: str, attribute: str) -> OutputRow | None:
    row = await database.one(_OUTPUT + " WHERE release = $1 AND attribute = $2", release, attribute)
    return None if row is None else decode(row, OutputRow)


async def outputs(database: Database | Connection, release: str) -> list[OutputRow]:
    """By attribute path."""
    rows = await database.all(_OUTPUT + " WHERE release = $1", release)
    return sorted((decode(row, OutputRow) for row in rows), key=lambda row: row.attribute)


async def releases_of_manifest(database: Database, project: str, digest: str) -> Sequence[Row]:
    """Version and attribute path of each output with this manifest, of releases that are not yanked."""
    return await database.all(
        """SELECT r.version, o.attribute FROM output o JOIN release r ON r.id = o.release
           WHERE o.manifest = $2 AND r.project = $1 AND r.yanked_at IS NULL""",
        project,
        digest,
    )


async def make_available(connection: Connection, release: str, row: OutputRow) -> None:
    """Recorded → available; once, since a manifest never changes."""
    await connection.run(
        """UPDATE output SET manifest = $3, statement = $4, statement_signatures = $5
           WHERE release = $1 AND attribute = $2 AND manifest IS NULL""",
        release,
        row.attribute,
        row.manifest,
        row.statement,
        row.statement_signatures,
    )


async def replace_statement_signatures(
    connection: Connection, rows: Sequence[tuple[str, str, str, str]]
) -> None:
    """release, attribute, new signatures, the ones that they were made from."""
    await connection.many(
        """UPDATE output SET statement_signatures = $3
           WHERE release = $1 AND attribute = $2 AND statement_signatures = $4""",
        rows,
    )


async def add_manifest(
    connection: Connection, digest: str, project: str, root: str, counts: tuple[int, int], now: int
) -> None:
    """`counts`: paths, and bytes of their NARs."""
    await connection.run(
        """INSERT INTO manifest (digest, project, root, path_count, nar_size, created_at)
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project, digest) DO NOTHING""",
        digest,
        project,
        root,
        *counts,
        now,
    )


def labels_of(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str])
