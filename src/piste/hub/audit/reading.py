"""Reading the audit log: as a stream for who may, and all of it to see whether its chains hold."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from piste.hub.audit import queries
from piste.hub.db.base import Database
from piste.wire.audit import AuditError, ChainReader, export_line

_BATCH: Final = 500


@dataclass(frozen=True)
class BrokenChain:
    chain: str  # id of the organization; empty for the hub's own
    problem: str


async def lines(database: Database, chain: str, since: int | None) -> AsyncIterator[str]:
    """The entries from a moment on as lines of NDJSON, without their ends. They follow one another without a
    gap, so that the reader can check them."""
    number = 1 if since is None else await queries.first_since(database, chain, since)
    while number is not None:
        rows = await queries.entries(database, chain, number, _BATCH)
        for row in rows:
            yield export_line(row["entry"], row["hash"])
        number = rows[-1]["number"] + 1 if len(rows) == _BATCH else None


async def verify(database: Database) -> tuple[int, list[BrokenChain]]:
    """How many entries there are, and the chains that don't hold: each entry has the hash that the next one
    names, and the last one is where the chain says that it ends."""
    count, broken = 0, []
    for row in await queries.chains(database):
        reader = ChainReader()
        try:
            async for line in lines(database, row["organization"], None):
                reader.take(line)
            problem = _end_problem(reader, row["number"], row["hash"])
        except AuditError as error:
            problem = str(error)
        count += reader.count
        if problem is not None:
            broken.append(BrokenChain(row["organization"], problem))
    return count, broken


def _end_problem(reader: ChainReader, number: int, hash_: str) -> str | None:
    # While the hub serves, entries may have come since the chain's end was read.
    if (reader.number or 0) < number:
        return f"it ends with entry {reader.number or 0} instead of {number}"
    if reader.number == number and reader.hash != hash_:
        return "its last entry is another one"
    return None
