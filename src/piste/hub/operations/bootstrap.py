"""The first token of a hub, and the keys that its hosts must trust: what is there before anybody can log
in."""

from typing import Final

from piste.hub.access import queries, token_queries
from piste.hub.access.records import Kind
from piste.hub.access.token_text import hash_token, make_token
from piste.hub.db.base import Connection
from piste.hub.errors import HubError
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.clock import HOUR
from piste.lib.identifiers import new_id

_ADMIN: Final = "admin"


async def make_admin_token(services: Services) -> str:
    """A user token with every right that expires in an hour, for the local person `admin`."""
    now = services.clock()
    text = make_token(Kind.USER)
    async with services.database.transaction() as connection:
        person = await _admin(connection, now)
        row = token_queries.TokenRow(
            id=new_id(now),
            kind=Kind.USER,
            hash=hash_token(text),
            person=person,
            description="admin-token",
            created_by=person,
            created_at=now,
            expires_at=now + HOUR,
        )
        await token_queries.add_token(connection, row)
        note(f"user token {row.id} of {_ADMIN}")
    return text


async def public_keys(services: Services, organization: str | None) -> list[str]:
    """Keys in the form NAME:BASE64, those of one organization or of all; the newest of each first."""
    if organization is None:
        found = await queries.all_organizations(services.database)
    else:
        one = await queries.organization_by_name(services.database, organization)
        if one is None:
            raise HubError("not-found", f"There is no organization {organization}.")
        found = [one]
    return [str(key) for each in found for key in await services.keyring.public_keys(each.id)]


async def _admin(connection: Connection, now: int) -> str:
    row = await queries.local_person(connection, _ADMIN)
    if row is None:
        made = new_id(now)
        await queries.add_local_person(connection, made, _ADMIN, now, superuser=True)
        return made
    if not row["superuser"]:
        # Somebody was invited under this name before the first admin token was made.
        raise HubError(
            "already-exists",
            f"There is a person {_ADMIN} who is not the hub's own.",
            hint="Remove that person's memberships and tokens first.",
        )
    found: str = row["id"]
    return found
