"""HTTP for organizations, members, upstreams and keys."""

from functools import partial

import msgspec
from starlette.responses import Response

from piste.hub.access import queries as access_queries
from piste.hub.access import records
from piste.hub.access.membership import end_credentials
from piste.hub.access.records import Permission, Role
from piste.hub.db.base import ConflictError, Connection
from piste.hub.errors import HubError, not_found
from piste.hub.http import json_response, read_json
from piste.hub.organizations import queries, rules, signing_keys
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.identifiers import new_id
from piste.wire.organizations import (
    Member,
    NewMember,
    NewOrganization,
    NewSigningKey,
    NewUpstream,
    Organization,
    Upstream,
)

_BASE = "/api/v1/organizations"
_ONE = _BASE + "/{org}"


def routes(services: Services) -> list[Route]:
    read, admin = Permission.ORGANIZATION_READ, Permission.ORGANIZATION_ADMIN
    hub, one = Scope.HUB, Scope.ORGANIZATION
    table = [
        ("GET", _BASE, Permission.LIST, hub, _list),
        ("POST", _BASE, Permission.ORGANIZATION_CREATE, hub, _create),
        ("GET", _ONE, read, one, _show),
        ("GET", _ONE + "/members", read, one, _members),
        ("POST", _ONE + "/members", admin, one, _put_member),
        ("DELETE", _ONE + "/members/{person}", admin, one, _remove_member),
        ("GET", _ONE + "/upstreams", read, one, _upstreams),
        ("POST", _ONE + "/upstreams", admin, one, _put_upstream),
        ("DELETE", _ONE + "/upstreams", admin, one, _remove_upstream),
        ("GET", _ONE + "/keys", read, one, _keys),
        ("POST", _ONE + "/keys", admin, one, _add_key),
        ("DELETE", _ONE + "/keys/{key}", admin, one, _revoke_key),
    ]
    return [
        Route(method, pattern, permission, scope, partial(handler, services))
        for method, pattern, permission, scope, handler in table
    ]


async def _list(services: Services, exchange: Exchange) -> Response:
    found = await services.guard.organizations_of(exchange.actor)
    return json_response([await _message(services, each) for each in found])


async def _create(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, NewOrganization)
    now = services.clock()
    made = records.Organization(id=new_id(now), name=rules.check_name(asked.name), created_at=now)
    try:
        async with services.database.transaction() as connection:
            await queries.add_organization(connection, made)
            note(f"organization {made.name}", organization=made)
            await services.keyring.add_key(connection, made.id, made.name)
            if exchange.actor.person is not None:
                await queries.put_member(connection, made.id, exchange.actor.person, Role.OWNER, now)
    except ConflictError as error:
        raise HubError("already-exists", f"There is an organization {made.name} already.") from error
    return json_response(await _message(services, made), 201)


async def _show(services: Services, exchange: Exchange) -> Response:
    return json_response(await _message(services, exchange.organization))


async def _message(services: Services, organization: records.Organization) -> Organization:
    keys = await services.keyring.public_keys(organization.id)
    return Organization(organization.name, organization.created_at, [str(key) for key in keys])


async def _members(services: Services, exchange: Exchange) -> Response:
    rows = await queries.members(services.database, exchange.organization.id)
    return json_response([Member(row["name"], row["role"], row["since"]) for row in rows])


async def _put_member(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, NewMember)
    name, role, now = rules.check_name(asked.person), rules.parse_role(asked.role), services.clock()
    organization = exchange.organization.id
    async with services.database.transaction() as connection:
        person = await _person(connection, name, now)
        held = await queries.roles(connection, organization)
        rules.check_role_change(held, by_owner=_is_owner(exchange), person=person, role=role)
        await queries.put_member(connection, organization, person, role, now)
        await services.revocations.add_person(connection, person)
        note(f"member {name} {person} as {role}")
    return json_response(Member(name, role, now), 201)


async def _person(connection: Connection, name: str, now: int) -> str:
    """The local person of that name; one that isn't known yet is made."""
    if (row := await access_queries.local_person(connection, name)) is not None:
        found: str = row["id"]
        return found
    made = new_id(now)
    await access_queries.add_local_person(connection, made, name, now, superuser=False)
    return made


async def _remove_member(services: Services, exchange: Exchange) -> Response:
    organization = exchange.organization.id
    async with services.database.transaction() as connection:
        row = await access_queries.local_person(connection, exchange.parameters["person"])
        held = await queries.roles(connection, organization)
        if row is None or row["id"] not in held:
            raise not_found()
        rules.check_role_change(held, by_owner=_is_owner(exchange), person=row["id"], role=None)
        await queries.remove_member(connection, organization, row["id"])
        await end_credentials(services, connection, organization, row["id"])
        note(f"member {row['name']} {row['id']}")
    return Response(status_code=204)


def _is_owner(exchange: Exchange) -> bool:
    actor = exchange.actor
    return actor.superuser or actor.roles.get(exchange.organization.id) is Role.OWNER


async def _upstreams(services: Services, exchange: Exchange) -> Response:
    rows = await queries.upstreams(services.database, exchange.organization.id)
    return json_response(
        [
            Upstream(row["url"], msgspec.json.decode(row["public_keys"], type=list[str]), row["created_at"])
            for row in rows
        ]
    )


async def _put_upstream(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, NewUpstream)
    url, keys, now = (
        rules.check_upstream_url(asked.url),
        rules.check_public_keys(asked.public_keys),
        services.clock(),
    )
    organization = exchange.organization.id
    if len(await queries.upstreams(services.database, organization)) >= rules.MAX_UPSTREAMS:
        raise HubError("bad-request", f"An organization has at most {rules.MAX_UPSTREAMS} upstreams.")
    async with services.database.transaction() as connection:
        listed = msgspec.json.encode(keys).decode()
        await queries.put_upstream(connection, new_id(now), organization, url, listed, now)
        note(f"upstream {url} {' '.join(keys)}")
    return json_response(Upstream(url, keys, now), 201)


async def _remove_upstream(services: Services, exchange: Exchange) -> Response:
    url = exchange.request.query_params.get("url", "").rstrip("/")
    async with services.database.transaction() as connection:
        if not await queries.remove_upstream(connection, exchange.organization.id, url):
            raise not_found()
        note(f"upstream {url}")
    return Response(status_code=204)


async def _keys(services: Services, exchange: Exchange) -> Response:
    return json_response(await signing_keys.list_keys(services, exchange.organization))


async def _add_key(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, NewSigningKey)
    return json_response(await signing_keys.add_key(services, exchange.organization, asked.public_key), 201)


async def _revoke_key(services: Services, exchange: Exchange) -> Response:
    fate = rules.check_fate(exchange.request.query_params.get("signatures"))
    name = exchange.parameters["key"]
    return json_response(await signing_keys.revoke_key(services, exchange.organization, name, fate))
