"""What access asks the database: SQL, nothing else."""

from collections.abc import Sequence

from piste.hub.access.records import Organization, Project
from piste.hub.db.base import Connection, Database, Row, decode
from piste.nix.flake_ref import valid_name

_PROJECT = """SELECT p.id, p.organization, o.name AS organization_name, p.name, p.visibility, p.created_at
    FROM project p JOIN organization o ON o.id = p.organization"""
_PROJECT_BY_NAME = " ".join([_PROJECT, "WHERE lower(o.name) = $1 AND lower(p.name) = $2"])
_PROJECT_OF_ORGANIZATION = " ".join([_PROJECT, "WHERE o.id = $1 AND p.id = $2"])
_PROJECT_OF_DELETED = """SELECT d.project AS id, d.organization, o.name AS organization_name,
    d.project_name AS name, d.visibility, d.project_created_at AS created_at
    FROM deleted_release d JOIN organization o ON o.id = d.organization
    WHERE d.id = $3 AND lower(o.name) = $1 AND lower(d.project_name) = $2"""
_PROJECTS_BY_ID = " ".join([_PROJECT, "WHERE p.id IN (SELECT value FROM json_each($1))"])

_HOLDER = """SELECT t.id, t.kind, t.organization, t.person, t.project, t.requirement, t.attribute,
        t.minimum_version, t.expires_at, t.revoked_at, p.name AS person_name, p.superuser,
        m.organization AS member_of, m.role, s.project_name AS session_project,
        s.version AS session_version, s.rolling AS session_rolling, s.stage AS session_stage,
        s.subject AS session_subject, s.issuer AS session_issuer
    FROM token t LEFT JOIN person p ON p.id = t.person LEFT JOIN member m ON m.person = t.person
        LEFT JOIN publication_session s ON s.token = t.id"""
_BY_HASH = " ".join([_HOLDER, "WHERE t.hash = $1"])
_BY_ID = " ".join([_HOLDER, "WHERE t.id = $1"])


async def organization_by_name(database: Database, name: str) -> Organization | None:
    """By name, without regard to case; what can't be a name isn't asked for."""
    if not valid_name(name):
        return None
    row = await database.one(
        "SELECT id, name, created_at FROM organization WHERE lower(name) = $1", name.lower()
    )
    return None if row is None else decode(row, Organization)


async def all_organizations(database: Database) -> list[Organization]:
    rows = await database.scan("SELECT id, name, created_at FROM organization")
    return [decode(row, Organization) for row in rows]


async def organizations_by_id(database: Database, ids_json: str) -> list[Organization]:
    """Those of a JSON array of ids."""
    rows = await database.all(
        "SELECT id, name, created_at FROM organization WHERE id IN (SELECT value FROM json_each($1))",
        ids_json,
    )
    return [decode(row, Organization) for row in rows]


async def project_by_name(database: Database, organization: str, name: str) -> Project | None:
    """By names, without regard to case."""
    if not (valid_name(organization) and valid_name(name)):
        return None
    row = await database.one(_PROJECT_BY_NAME, organization.lower(), name.lower())
    return None if row is None else decode(row, Project)


async def project_of_release(
    database: Database, organization: str, name: str, release: str
) -> Project | None:
    """By names as `project_by_name`, or the deleted project that had the release, as it was: another one may
    have its name by now."""
    project = await project_by_name(database, organization, name)
    if not (valid_name(organization) and valid_name(name)):
        return None
    row = await database.one(_PROJECT_OF_DELETED, organization.lower(), name.lower(), release)
    if row is None or (project is not None and row["id"] == project.id):
        return project
    return decode(row, Project)


async def project_of_organization(database: Database, organization: str, project: str) -> Project | None:
    """By both ids, as clients of other dialects name it."""
    row = await database.one(_PROJECT_OF_ORGANIZATION, organization, project)
    return None if row is None else decode(row, Project)


async def projects_by_id(database: Database, ids_json: str) -> list[Project]:
    """Those of a JSON array of ids that exist."""
    rows = await database.all(_PROJECTS_BY_ID, ids_json)
    return [decode(row, Project) for row in rows]


async def all_projects(database: Database) -> list[Project]:
    rows = await database.scan(_PROJECT)
    return [decode(row, Project) for row in rows]


async def local_person(connection: Connection, name: str) -> Row | None:
    return await connection.one(
        "SELECT id, name, superuser FROM person WHERE issuer = 'local' AND subject = $1", name
    )


async def add_local_person(connection: Connection, id_: str, name: str, now: int, *, superuser: bool) -> None:
    await connection.run(
        """INSERT INTO person (id, issuer, subject, name, superuser, created_at)
           VALUES ($1, 'local', $2, $2, $3, $4)""",
        id_,
        name,
        superuser,
        now,
    )


async def token_by_hash(database: Database, hashed: bytes) -> Sequence[Row]:
    """The token and its person, once for each organization of that person (once with NULL if there is
    none)."""
    return await database.all(_BY_HASH, hashed)


async def token_by_id(database: Database, id_: str) -> Sequence[Row]:
    """The same, found by the id."""
    return await database.all(_BY_ID, id_)


async def person(database: Database, person: str) -> Sequence[Row]:
    """A person, once for each organization of theirs (once with NULL if there is none)."""
    return await database.all(
        """SELECT p.id, p.name, p.superuser, m.organization AS member_of, m.role
           FROM person p LEFT JOIN member m ON m.person = p.id WHERE p.id = $1""",
        person,
    )


async def token_key(database: Database, number: int, now: int) -> bytes | None:
    row = await database.one(
        "SELECT secret FROM token_key WHERE id = $1 AND (retired_at IS NULL OR retired_at > $2)", number, now
    )
    return None if row is None else row["secret"]


async def newest_token_key(database: Database) -> tuple[int, bytes] | None:
    row = await database.one(
        "SELECT id, secret FROM token_key WHERE retired_at IS NULL ORDER BY id DESC LIMIT 1"
    )
    return None if row is None else (row["id"], row["secret"])


async def add_token_key(connection: Connection, number: int, secret: bytes, now: int) -> None:
    await connection.run(
        "INSERT INTO token_key (id, secret, created_at) VALUES ($1, $2, $3)", number, secret, now
    )


async def end_token_keys(connection: Connection, newest: int, ends: int, now: int) -> list[int]:
    """Let all keys but the newest end at a moment, if they don't before; those that had not ended yet."""
    rows = await connection.all(
        """UPDATE token_key SET retired_at = CASE WHEN retired_at < $2 THEN retired_at ELSE $2 END
           WHERE id < $1 AND (retired_at IS NULL OR retired_at > $3) RETURNING id""",
        newest,
        ends,
        now,
    )
    return [row["id"] for row in rows]


async def revocations_after(database: Database, number: int, since: int) -> Sequence[Row]:
    return await database.all(
        "SELECT number, subject, created_at FROM revocation WHERE number > $1 AND created_at >= $2",
        number,
        since,
    )


async def revocations_of(database: Database, subjects_json: str, since: int) -> Sequence[Row]:
    return await database.all(
        """SELECT number, subject, created_at FROM revocation
           WHERE subject IN (SELECT value FROM json_each($1)) AND created_at >= $2""",
        subjects_json,
        since,
    )


async def add_revocation(connection: Connection, subject: str, now: int) -> None:
    await connection.run("INSERT INTO revocation (subject, created_at) VALUES ($1, $2)", subject, now)


async def forget_revocations(connection: Connection, before: int) -> None:
    """The newest row stays: SQLite would give its number to the next one, and others read from the last
    number on."""
    await connection.run(
        "DELETE FROM revocation WHERE created_at < $1 AND number < (SELECT max(number) FROM revocation)",
        before,
    )


async def signing_keys(database: Database | Connection, organization: str) -> Sequence[Row]:
    """All keys of an organization, retired ones too, the newest first."""
    return await database.all(
        """SELECT id, name, public, secret, created_at, retired_at FROM signing_key
           WHERE organization = $1 ORDER BY created_at DESC, id DESC""",
        organization,
    )


async def signing_key_count(connection: Connection, organization: str) -> int:
    row = await connection.one("SELECT count(*) AS n FROM signing_key WHERE organization = $1", organization)
    return row["n"] if row is not None else 0


async def add_signing_key(
    connection: Connection, row: tuple[str, str, str, bytes, bytes | None, int]
) -> None:
    """id, organization, name, public, secret, created_at."""
    await connection.run(
        """INSERT INTO signing_key (id, organization, name, public, secret, created_at)
           VALUES ($1, $2, $3, $4, $5, $6)""",
        *row,
    )
