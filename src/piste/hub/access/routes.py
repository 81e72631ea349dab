"""HTTP for the caller's own status, and for tokens."""

from functools import partial

import msgspec
from starlette.responses import Response

from piste.hub.access import queries, token_queries, token_rules
from piste.hub.access.records import Kind, Permission, Project
from piste.hub.access.status import status_of
from piste.hub.access.token_rules import TokenBounds
from piste.hub.access.token_text import hash_token, make_token
from piste.hub.db.base import Row
from piste.hub.errors import HubError, not_found
from piste.hub.http import json_response, read_json
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.lib.clock import SECOND
from piste.lib.identifiers import new_id
from piste.nix.flake_ref import FlakeRefError, parse_project
from piste.wire.tokens import CreatedToken, NewToken, Token

_TOKENS = "/api/v1/organizations/{org}/tokens"


def routes(services: Services) -> list[Route]:
    manage, one = Permission.CREDENTIAL_MANAGE, Scope.ORGANIZATION
    return [
        Route("GET", "/api/v1/status", Permission.STATUS, Scope.HUB, partial(_status, services)),
        Route("GET", _TOKENS, manage, one, partial(_list, services)),
        Route("POST", _TOKENS, manage, one, partial(_create, services)),
        Route("DELETE", _TOKENS + "/{token}", manage, one, partial(_revoke, services)),
    ]


async def _status(services: Services, exchange: Exchange) -> Response:
    return json_response(await status_of(services, exchange.actor))


async def _list(services: Services, exchange: Exchange) -> Response:
    rows = await token_queries.tokens_of(services.database, exchange.organization.id)
    return json_response([_message(row) for row in rows if _may_manage(exchange, row)])


async def _create(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, NewToken)
    kind = token_rules.check_kind(asked)
    seconds = token_rules.lifetime(kind, asked.expires_in)
    if kind is Kind.USER:
        person = await _person(services, exchange, asked)
        created = await _add(services, exchange, asked, seconds, person=person)
    else:
        services.guard.require(exchange.actor, Permission.ORGANIZATION_ADMIN, exchange.organization)
        bounds = token_rules.check_bounds(asked)
        project = await _project(services, exchange, asked.project or "")
        created = await _add(services, exchange, asked, seconds, project=project, bounds=bounds)
        published = await token_queries.release_versions(services.database, project.id)
        allowed = token_rules.allowed_versions(bounds, published)
        created = msgspec.structs.replace(created, allowed_versions=allowed)
    return json_response(created, 201, {"Cache-Control": "no-store"})


async def _add(
    services: Services,
    exchange: Exchange,
    asked: NewToken,
    seconds: int,
    *,
    person: str | None = None,
    project: Project | None = None,
    bounds: TokenBounds | None = None,
) -> CreatedToken:
    """Make the token and its row; the only place that knows its text."""
    now = services.clock()
    kind, organization = Kind(asked.kind), exchange.organization
    created = CreatedToken(
        id=new_id(now),
        token=make_token(kind),
        kind=kind,
        organization=organization.name,
        project=project.name if project else None,
        requirement=bounds.requirement if bounds else None,
        attribute=bounds.attribute if bounds else None,
        description=asked.description,
        expires_at=now + seconds * SECOND,
        minimum_version=bounds.minimum_version if bounds else None,
    )
    row = token_queries.TokenRow(
        id=created.id,
        kind=kind,
        hash=hash_token(created.token),
        organization=organization.id,
        person=person,
        project=project.id if project else None,
        requirement=created.requirement,
        attribute=created.attribute,
        minimum_version=created.minimum_version,
        description=asked.description,
        created_by=exchange.actor.person,
        created_at=now,
        expires_at=created.expires_at,
    )
    async with services.database.transaction() as connection:
        await token_queries.add_token(connection, row)
    return created


async def _person(services: Services, exchange: Exchange, asked: NewToken) -> str:
    """For whom a user token is: the caller, or for an admin any member."""
    actor = exchange.actor
    if asked.person is None or asked.person == actor.name:
        if actor.person is None:
            raise HubError("forbidden", "This credential belongs to no person.")
        return actor.person
    services.guard.require(actor, Permission.ORGANIZATION_ADMIN, exchange.organization)
    found = await token_queries.member_by_name(services.database, exchange.organization.id, asked.person)
    if found is None:
        raise HubError(
            "bad-request",
            f"{asked.person[:64]!r} is not a member.",
            hint="Add the person with `piste org add-member`.",
        )
    token_rules.check_may_act_for(actor, exchange.organization.id, found["role"], bool(found["superuser"]))
    person: str = found["id"]
    return person


async def _project(services: Services, exchange: Exchange, text: str) -> Project:
    """`PROJECT` or `ORG/PROJECT` of this organization."""
    organization = exchange.organization.name
    try:
        named, name = parse_project(text) if "/" in text else (organization, text)
    except FlakeRefError as error:
        raise HubError("bad-name", f"{error}") from error
    found = None
    if named.lower() == organization.lower():
        found = await queries.project_by_name(services.database, organization, name)
    if found is None:
        raise not_found()
    return found


async def _revoke(services: Services, exchange: Exchange) -> Response:
    row = await token_queries.token_of(
        services.database, exchange.organization.id, exchange.parameters["token"]
    )
    if row is None or not _may_manage(exchange, row):
        raise not_found()
    async with services.database.transaction() as connection:
        if await token_queries.revoke(connection, row["id"], services.clock()):
            await services.revocations.add_token(connection, row["id"])
    return Response(status_code=204)


def _may_manage(exchange: Exchange, row: Row) -> bool:
    if token_rules.may_manage_all(exchange.actor, exchange.organization.id):
        return True
    return exchange.actor.person is not None and row["person"] == exchange.actor.person


def _message(row: Row) -> Token:
    return Token(
        id=row["id"],
        kind=row["kind"],
        organization=row["organization_name"],
        description=row["description"],
        project=row["project_name"],
        requirement=row["requirement"],
        attribute=row["attribute"],
        minimum_version=row["minimum_version"],
        person=row["person_name"],
        created_by=row["creator"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )
