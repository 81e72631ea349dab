"""Who the caller is, in the words of the API."""

import msgspec

from piste.hub.access import queries
from piste.hub.access.records import Actor, Kind, Organization
from piste.hub.services import Services
from piste.wire.organizations import Status


async def status_of(services: Services, actor: Actor) -> Status:
    """Credentials that are no person's answer with their organization in place of a user; a resolve-only
    token belongs to none."""
    organizations = await _organizations(services, actor)
    keys = {
        each.name: [str(key) for key in await services.keyring.public_keys(each.id)] for each in organizations
    }
    bound = actor.kind in (Kind.RESOLVE_ONLY, Kind.CLOSURE, Kind.SESSION, Kind.IDENTITY)
    names = [each.name for each in organizations]
    return Status(
        logged_in=actor.kind is not Kind.NOBODY,
        user=actor.name if actor.kind is Kind.USER else next(iter(names), None),
        kind=None if actor.kind is Kind.NOBODY else actor.kind,
        organizations=[] if bound else names,
        expires_at=actor.expires_at,
        public_keys=keys,
    )


async def _organizations(services: Services, actor: Actor) -> list[Organization]:
    match actor.kind:
        case Kind.NOBODY:
            return []
        case Kind.USER | Kind.DEVICE:
            return await services.guard.organizations_of(actor)
        case Kind.SESSION:
            ids = msgspec.json.encode([actor.organization]).decode()
            return await queries.organizations_by_id(services.database, ids)
        case Kind.IDENTITY:
            owners = sorted(actor.trusted.organizations) if actor.trusted is not None else []
            return await queries.organizations_by_id(services.database, msgspec.json.encode(owners).decode())
        case Kind.RESOLVE_ONLY | Kind.CLOSURE:
            project = (
                actor.binding.project if actor.binding else actor.closure.project if actor.closure else ""
            )
            listed = msgspec.json.encode([project]).decode()
            found = await queries.projects_by_id(services.database, listed)
            ids = msgspec.json.encode([each.organization for each in found]).decode()
            return await queries.organizations_by_id(services.database, ids)
