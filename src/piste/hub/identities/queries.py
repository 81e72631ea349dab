"""What identities ask the database: SQL, nothing else."""

from collections.abc import Sequence

import msgspec

from piste.hub.db.base import Connection, Database, Row, decode
from piste.hub.identities.records import TrustRule

_RULE = """SELECT t.id, t.organization, t.project, t.project_name, t.issuer, t.audience, t.claims,
        t.created_by, t.created_at FROM trust_rule t"""
_RULES_FOR = " ".join([_RULE, "WHERE t.issuer = $1 AND t.audience IN (SELECT value FROM json_each($2))"])
_RULES_BY_ID = " ".join([_RULE, "WHERE t.id IN (SELECT value FROM json_each($1))"])
_LIST = """SELECT t.id, t.organization, t.project, COALESCE(p.name, t.project_name) AS project_name, t.issuer,
        t.audience, t.claims, c.name AS created_by, t.created_at
    FROM trust_rule t LEFT JOIN project p ON p.id = t.project LEFT JOIN person c ON c.id = t.created_by
    WHERE t.organization = $1 ORDER BY t.created_at, t.id"""


async def is_trusted_issuer(database: Database, issuer: str) -> bool:
    return await database.one("SELECT 1 AS one FROM trust_rule WHERE issuer = $1 LIMIT 1", issuer) is not None


async def rules_of_project(database: Database, organization: str, project: str) -> list[TrustRule]:
    """By the names of both, without regard to case. The oldest first: it is what a session is opened by."""
    rows = await database.all(
        f"""{_RULE} JOIN organization o ON o.id = t.organization LEFT JOIN project p ON p.id = t.project
            WHERE lower(o.name) = $1 AND lower(COALESCE(p.name, t.project_name)) = $2
            ORDER BY t.created_at, t.id""",
        organization.lower(),
        project.lower(),
    )
    return [decode(row, TrustRule) for row in rows]


async def rules_for(database: Database, issuer: str, audience: Sequence[str]) -> list[TrustRule]:
    """Those that name the issuer and one of the audiences."""
    rows = await database.scan(
        _RULES_FOR,
        issuer,
        msgspec.json.encode(audience).decode(),
    )
    return [decode(row, TrustRule) for row in rows]


async def rules_by_id(database: Database, ids: Sequence[str]) -> list[TrustRule]:
    """Those that are still there."""
    rows = await database.all(_RULES_BY_ID, msgspec.json.encode(ids).decode())
    return [decode(row, TrustRule) for row in rows]


async def rules_of_organization(database: Database, organization: str) -> list[TrustRule]:
    """All of them, the oldest first; `created_by` is a name."""
    return [decode(row, TrustRule) for row in await database.all(_LIST, organization)]


async def count_rules(connection: Connection, organization: str) -> int:
    row = await connection.one("SELECT count(*) AS n FROM trust_rule WHERE organization = $1", organization)
    return row["n"] if row is not None else 0


async def add_rule(connection: Connection, rule: TrustRule) -> None:
    await connection.run(
        """INSERT INTO trust_rule (id, organization, project, project_name, issuer, audience, claims,
               created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        *msgspec.structs.astuple(rule),
    )


async def remove_rule(connection: Connection, organization: str, id_: str) -> bool:
    removed = await connection.run(
        "DELETE FROM trust_rule WHERE organization = $1 AND id = $2", organization, id_
    )
    return removed == 1


async def sessions_of_rule(connection: Connection, rule: str) -> list[str]:
    """Those that were not revoked."""
    rows: Sequence[Row] = await connection.all(
        """SELECT t.id FROM token t JOIN publication_session s ON s.token = t.id
           WHERE s.rule = $1 AND t.revoked_at IS NULL""",
        rule,
    )
    return [row["id"] for row in rows]


async def hold_rule(connection: Connection, rule: str) -> Row | None:
    """The rule's project, if the rule is still there; it then is to the end of the transaction."""
    return await connection.one(
        """UPDATE trust_rule SET project = COALESCE(project, (SELECT p.id FROM project p
               WHERE p.organization = trust_rule.organization
                   AND lower(p.name) = lower(trust_rule.project_name)))
           WHERE id = $1 RETURNING organization, project, project_name""",
        rule,
    )


async def add_session(
    connection: Connection, values: tuple[str, str, str, str, bool, str | None, str, str]
) -> None:
    """token, rule, project_name, version, rolling, stage, issuer, subject"""
    await connection.run(
        """INSERT INTO publication_session (token, rule, project_name, version, rolling, stage, issuer,
               subject) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        *values,
    )


async def use_identity(connection: Connection, digest: str, expires_at: int) -> None:
    """ConflictError when it was exchanged before."""
    await connection.run("INSERT INTO identity_use (digest, expires_at) VALUES ($1, $2)", digest, expires_at)


async def forget_uses(connection: Connection, before: int) -> None:
    await connection.run("DELETE FROM identity_use WHERE expires_at < $1", before)
