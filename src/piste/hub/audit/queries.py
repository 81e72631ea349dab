"""What the audit log asks the database: SQL, nothing else. Entries are added and read, never changed."""

from collections.abc import Sequence

from piste.hub.db.base import Connection, Database, Row
from piste.wire.audit import START


async def next_number(connection: Connection, chain: str) -> tuple[int, str]:
    """The number of the entry to come and the hash of the last one. The chain is this transaction's until it
    ends."""
    row = await connection.one(
        """INSERT INTO audit_chain (organization, number, hash) VALUES ($1, 1, $2)
           ON CONFLICT (organization) DO UPDATE SET number = audit_chain.number + 1
           RETURNING number, hash""",
        chain,
        START,
    )
    if row is None:
        raise RuntimeError("the engine gave no row back")
    return row["number"], row["hash"]


async def add_entries(connection: Connection, rows: Sequence[tuple[str, int, int, str, str]]) -> None:
    """Chain, number, moment, text, hash; the last one becomes the chain's."""
    await connection.many(
        """INSERT INTO audit_entry (organization, number, recorded_at, entry, hash)
           VALUES ($1, $2, $3, $4, $5)""",
        rows,
    )
    chain, number, _, _, hash_ = rows[-1]
    await connection.run(
        "UPDATE audit_chain SET number = $2, hash = $3 WHERE organization = $1", chain, number, hash_
    )


async def first_since(database: Database, chain: str, since: int) -> int | None:
    """The number of the first entry from a moment on."""
    row = await database.one(
        "SELECT min(number) AS number FROM audit_entry WHERE organization = $1 AND recorded_at >= $2",
        chain,
        since,
    )
    return None if row is None else row["number"]


async def entries(database: Database, chain: str, number: int, limit: int) -> Sequence[Row]:
    """Entries from a number on."""
    return await database.scan(
        """SELECT number, entry, hash FROM audit_entry WHERE organization = $1 AND number >= $2
           ORDER BY number LIMIT $3""",
        chain,
        number,
        limit,
    )


async def chains(database: Database) -> Sequence[Row]:
    """Every chain with its last entry."""
    return await database.scan("SELECT organization, number, hash FROM audit_chain ORDER BY organization")
