"""Tokens from their row to their end; what ends takes the closure tokens that it was given along."""

from piste.hub.access import creating, token_queries
from piste.hub.access.creating import Wanted
from piste.hub.db.base import Connection, Row
from piste.hub.errors import HubError
from piste.hub.routing import Exchange
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.clock import SECOND
from piste.wire.tokens import CreatedToken


async def add(
    services: Services, exchange: Exchange, wanted: Wanted, *, replaces: Row | None = None, overlap: int = 0
) -> CreatedToken:
    """Make the token, in place of another or not."""
    now = services.clock()
    created, row = creating.make(exchange, wanted, now)
    async with services.database.transaction() as connection:
        await token_queries.add_token(connection, row)
        note(f"{wanted.kind} token {created.id}" + (f" in place of {replaces['id']}" if replaces else ""))
        if replaces is not None:
            await _replace(connection, replaces["id"], created.id, now + overlap * SECOND)
            if not overlap:
                await _end(services, connection, replaces["id"], now)
    return created


async def end(services: Services, row: Row) -> None:
    """The token and the closure tokens that it was given."""
    async with services.database.transaction() as connection:
        note(f"{row['kind']} token {row['id']}")
        await _end(services, connection, row["id"], services.clock())


async def _replace(connection: Connection, old: str, new: str, ends: int) -> None:
    if not await token_queries.replace(connection, old, new, ends):
        raise HubError("bad-request", "This token was replaced or revoked at this moment.")


async def _end(services: Services, connection: Connection, token: str, now: int) -> None:
    if await token_queries.revoke(connection, token, now):
        await services.revocations.add_token(connection, token)
