"""HTTP for the caller's own status, and for tokens."""

from dataclasses import replace
from functools import partial
from typing import Final

from starlette.responses import Response

from piste.hub.access import creating, token_queries, token_rules
from piste.hub.access.creating import Wanted
from piste.hub.access.keeping import add, end
from piste.hub.access.records import Kind, Permission
from piste.hub.access.status import status_of
from piste.hub.access.token_rules import TokenBounds
from piste.hub.db.base import Row
from piste.hub.errors import HubError, not_found
from piste.hub.http import json_response, read_json
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.lib.clock import SECOND
from piste.wire.tokens import CreatedToken, NewToken, NewTokens, RotateToken, Token

_TOKENS = "/api/v1/organizations/{org}/tokens"
BATCH_LIMIT: Final = 8 << 20


def routes(services: Services) -> list[Route]:
    manage, one = Permission.CREDENTIAL_MANAGE, Scope.ORGANIZATION
    return [
        Route("GET", "/api/v1/status", Permission.STATUS, Scope.HUB, partial(_status, services)),
        Route("GET", _TOKENS, manage, one, partial(_list, services)),
        Route("POST", _TOKENS, manage, one, partial(_create, services)),
        Route("POST", _TOKENS + "/batch", manage, one, partial(_create_many, services), BATCH_LIMIT),
        Route("DELETE", _TOKENS + "/{token}", manage, one, partial(_revoke, services)),
        Route("POST", _TOKENS + "/{token}/rotate", manage, one, partial(_rotate, services)),
    ]


async def _status(services: Services, exchange: Exchange) -> Response:
    return json_response(await status_of(services, exchange.actor))


async def _list(services: Services, exchange: Exchange) -> Response:
    rows = await token_queries.tokens_of(services.database, exchange.organization.id)
    return json_response([_message(row) for row in rows if _may_manage(exchange, row)])


async def _create(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, NewToken)
    kind = token_rules.check_kind(asked)
    wanted = Wanted(kind, asked.description, token_rules.lifetime(kind, asked.expires_in))
    if kind is Kind.USER:
        person = await _person(services, exchange, asked)
        return _shown_once(await add(services, exchange, replace(wanted, person=person)))
    services.guard.require(exchange.actor, Permission.ORGANIZATION_ADMIN, exchange.organization)
    if kind is Kind.DEVICE:
        return _shown_once(await add(services, exchange, wanted))
    wanted = await creating.resolve_only(services, exchange.organization, asked, {})
    created = await add(services, exchange, wanted)
    return _shown_once(await creating.with_versions(services, created, wanted))


async def _create_many(services: Services, exchange: Exchange) -> Response:
    services.guard.require(exchange.actor, Permission.ORGANIZATION_ADMIN, exchange.organization)
    asked = await read_json(exchange, NewTokens)
    created = await creating.make_many(services, exchange, asked)
    return json_response(created, 200 if asked.dry_run else 201, {"Cache-Control": "no-store"})


def _shown_once(created: CreatedToken) -> Response:
    return json_response(created, 201, {"Cache-Control": "no-store"})


async def _rotate(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, RotateToken)
    row = await _managed(services, exchange)
    now = services.clock()
    token_rules.check_rotatable(row, now)
    kind = Kind(row["kind"])
    if kind is Kind.USER:
        await _check_may_rotate(services, exchange, row)
    as_before = (row["expires_at"] - row["created_at"]) // SECOND if row["expires_at"] else None
    new = Wanted(
        kind,
        row["description"],
        token_rules.lifetime(kind, as_before if asked.expires_in is None else asked.expires_in),
        person=row["person"],
        project=row["project"],
        project_name=row["project_name"],
    )
    overlap = token_rules.overlap(asked.overlap)
    if kind is not Kind.RESOLVE_ONLY:
        return _shown_once(await add(services, exchange, new, replaces=row, overlap=overlap))
    bounds = TokenBounds(row["requirement"], row["attribute"], row["minimum_version"])
    new = replace(new, bounds=bounds)
    created = await add(services, exchange, new, replaces=row, overlap=overlap)
    return _shown_once(await creating.with_versions(services, created, new))


async def _check_may_rotate(services: Services, exchange: Exchange, row: Row) -> None:
    """Whoever rotates a person's token gets one that acts as that person."""
    if row["person"] == exchange.actor.person:
        return
    name = row["person_name"] or ""
    found = await token_queries.member_by_name(services.database, exchange.organization.id, name)
    if found is None or found["id"] != row["person"]:
        raise HubError("forbidden", "Only its person rotates this token.", hint="Revoke it, if it must end.")
    token_rules.check_may_act_for(
        exchange.actor, exchange.organization.id, found["role"], bool(found["superuser"])
    )


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


async def _revoke(services: Services, exchange: Exchange) -> Response:
    row = await _managed(services, exchange)
    await end(services, row)
    return Response(status_code=204)


async def _managed(services: Services, exchange: Exchange) -> Row:
    """The token of the address, if it is one that the caller manages."""
    row = await token_queries.token_of(
        services.database, exchange.organization.id, exchange.parameters["token"]
    )
    if row is None or not _may_manage(exchange, row):
        raise not_found()
    return row


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
        last_used_address=row["last_used_address"],
        last_used_host=row["last_used_host"],
        replaced_by=row["replaced_by"],
    )
