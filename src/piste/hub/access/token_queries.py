"""What the routes of tokens ask the database: SQL, nothing else."""

from collections.abc import Sequence

import msgspec

from piste.hub.db.base import Connection, Database, Row

_SELECT = """SELECT t.id, t.kind, t.organization, o.name AS organization_name, t.person,
        p.name AS person_name,
        pr.name AS project_name, t.requirement, t.attribute, t.minimum_version, t.description,
        c.name AS creator, t.created_at, t.expires_at, t.last_used_at, t.last_used_address,
        t.last_used_host, t.revoked_at, t.replaced_by, t.project
    FROM token t
    LEFT JOIN organization o ON o.id = t.organization
    LEFT JOIN person p ON p.id = t.person
    LEFT JOIN person c ON c.id = t.created_by
    LEFT JOIN project pr ON pr.id = t.project"""
_ALL = f"{_SELECT} WHERE t.organization = $1 ORDER BY t.created_at DESC, t.id DESC"
_ONE = f"{_SELECT} WHERE t.organization = $1 AND t.id = $2"


async def tokens_of(database: Database, organization: str) -> Sequence[Row]:
    """All tokens of an organization, the newest first."""
    return await database.scan(_ALL, organization)


async def token_of(database: Database, organization: str, id_: str) -> Row | None:
    return await database.one(_ONE, organization, id_)


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a new token."""

    id: str
    kind: str
    hash: bytes
    organization: str | None = None
    person: str | None = None
    project: str | None = None
    requirement: str | None = None
    attribute: str | None = None
    minimum_version: str | None = None
    description: str
    created_by: str | None
    created_at: int
    expires_at: int | None


async def add_token(connection: Connection, row: TokenRow) -> None:
    await add_tokens(connection, [row])


async def add_tokens(connection: Connection, rows: Sequence[TokenRow]) -> None:
    await connection.many(
        """INSERT INTO token (id, kind, hash, organization, person, project, requirement, attribute,
               minimum_version, description, created_by, created_at, expires_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)""",
        [msgspec.structs.astuple(row) for row in rows],
    )


async def revoke(connection: Connection, id_: str, now: int) -> int:
    return await connection.run(
        "UPDATE token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL", id_, now
    )


async def replace(connection: Connection, id_: str, successor: str, expires_at: int) -> int:
    """Name the token that takes another's place, and let that one end; 0 if it was replaced or revoked
    meanwhile."""
    return await connection.run(
        """UPDATE token SET replaced_by = $2,
               expires_at = CASE WHEN expires_at < $3 THEN expires_at ELSE $3 END
           WHERE id = $1 AND replaced_by IS NULL AND revoked_at IS NULL""",
        id_,
        successor,
        expires_at,
    )


async def revoke_of_person(connection: Connection, organization: str, person: str, now: int) -> list[str]:
    """Revoke what a person holds of an organization; ids of those that held until now."""
    rows = await connection.all(
        """UPDATE token SET revoked_at = $3
           WHERE organization = $1 AND person = $2 AND revoked_at IS NULL RETURNING id""",
        organization,
        person,
        now,
    )
    return [row["id"] for row in rows]


async def unconfined_of_person(connection: Connection, person: str) -> list[str]:
    """Tokens of a person that are not an organization's."""
    rows = await connection.all(
        "SELECT id FROM token WHERE person = $1 AND organization IS NULL AND revoked_at IS NULL", person
    )
    return [row["id"] for row in rows]


async def projects_of(connection: Connection, organization: str) -> list[str]:
    rows = await connection.all("SELECT id FROM project WHERE organization = $1", organization)
    return [row["id"] for row in rows]


async def member_by_name(database: Database, organization: str, name: str) -> Row | None:
    """A member's id and role, and whether the person is a superuser."""
    return await database.one(
        """SELECT p.id, p.superuser, m.role FROM person p JOIN member m ON m.person = p.id
           WHERE m.organization = $1 AND p.issuer = 'local' AND p.subject = $2""",
        organization,
        name,
    )


async def release_versions(database: Database, project: str) -> list[str]:
    """Versions that a range may choose and pre-releases, the highest first."""
    rows = await database.scan(
        "SELECT version FROM release WHERE project = $1 AND yanked_at IS NULL ORDER BY sort DESC", project
    )
    return [row["version"] for row in rows]
