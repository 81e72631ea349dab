"""What organizations ask the database: SQL, nothing else."""

from collections.abc import Sequence

from piste.hub.access.records import Organization
from piste.hub.db.base import Connection, Database, Row


async def add_organization(connection: Connection, organization: Organization) -> None:
    await connection.run(
        "INSERT INTO organization (id, name, created_at) VALUES ($1, $2, $3)",
        organization.id,
        organization.name,
        organization.created_at,
    )


async def members(database: Database, organization: str) -> Sequence[Row]:
    return await database.all(
        """SELECT m.person, p.name, m.role, m.since FROM member m JOIN person p ON p.id = m.person
           WHERE m.organization = $1 ORDER BY m.since, m.person""",
        organization,
    )


async def roles(connection: Connection, organization: str) -> dict[str, str]:
    """Person (id) -> role, inside a transaction."""
    rows = await connection.all("SELECT person, role FROM member WHERE organization = $1", organization)
    return {row["person"]: row["role"] for row in rows}


async def put_member(connection: Connection, organization: str, person: str, role: str, now: int) -> None:
    await connection.run(
        """INSERT INTO member (organization, person, role, since) VALUES ($1, $2, $3, $4)
           ON CONFLICT (organization, person) DO UPDATE SET role = excluded.role""",
        organization,
        person,
        role,
        now,
    )


async def remove_member(connection: Connection, organization: str, person: str) -> None:
    await connection.run("DELETE FROM member WHERE organization = $1 AND person = $2", organization, person)


async def upstreams(database: Database, organization: str) -> Sequence[Row]:
    return await database.all(
        "SELECT url, public_keys, created_at FROM upstream WHERE organization = $1 ORDER BY created_at, id",
        organization,
    )


async def put_upstream(
    connection: Connection, id_: str, organization: str, url: str, keys_json: str, now: int
) -> None:
    """A second one of the same address takes over the keys."""
    await connection.run(
        """INSERT INTO upstream (id, organization, url, public_keys, created_at) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (organization, url) DO UPDATE SET public_keys = excluded.public_keys""",
        id_,
        organization,
        url,
        keys_json,
        now,
    )


async def remove_upstream(connection: Connection, organization: str, url: str) -> int:
    return await connection.run(
        "DELETE FROM upstream WHERE organization = $1 AND url = $2", organization, url
    )
