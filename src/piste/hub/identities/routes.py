"""Trust rules and the exchange over HTTP. Decides nothing."""

from functools import partial
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response

from piste.hub.access import token_queries
from piste.hub.access.authenticate import single_credential
from piste.hub.access.queries import project_by_name
from piste.hub.access.records import Permission
from piste.hub.errors import HubError, not_found
from piste.hub.http import json_response, read_json
from piste.hub.identities import presets, queries, rules
from piste.hub.identities.records import TrustRule
from piste.hub.identities.sessions import open_session
from piste.hub.registry.rules import check_name
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.lib.identifiers import new_id
from piste.wire.identities import NewSession, NewTrust, Trust

_TRUST = "/api/v1/organizations/{org}/trust"


def routes(services: Services) -> list[Route]:
    admin, one = Permission.ORGANIZATION_ADMIN, Scope.ORGANIZATION
    exchange = Route(
        "POST",
        "/api/v1/identities/session",
        Permission.IDENTITY_EXCHANGE,
        Scope.HUB,
        partial(_exchange, services),
        own_credential=True,
    )
    return [
        exchange,
        Route("GET", _TRUST, admin, one, partial(_list, services)),
        Route("POST", _TRUST, admin, one, partial(_add, services)),
        Route("DELETE", _TRUST + "/{rule}", admin, one, partial(_remove, services)),
    ]


async def _exchange(services: Services, exchange: Exchange) -> Response:
    text = single_credential(exchange.request.scope["headers"])
    if text is None:
        raise HubError(
            "credential-missing",
            "The identity of the CI is missing.",
            hint="Send its JWT as `Authorization: Bearer JWT`.",
        )
    identity = await services.identities.verify(text)
    asked = await read_json(exchange, NewSession)
    created = await open_session(services, identity, asked)
    return json_response(created, 201, {"Cache-Control": "no-store"})


async def _list(services: Services, exchange: Exchange) -> Response:
    found = await queries.rules_of_organization(services.database, exchange.organization.id)
    return json_response([_message(exchange, rule) for rule in found])


async def _add(services: Services, exchange: Exchange) -> Response:
    asked = await read_json(exchange, NewTrust)
    issuer, claims = presets.expand(asked) if asked.preset is not None else (asked.issuer, asked.claims)
    if asked.preset is None and (asked.repository or asked.repository_id or asked.refs or asked.environment):
        raise HubError("bad-trust", "Repository, refs and environment belong to a preset.")
    if issuer is None:
        raise HubError("bad-trust", "A rule needs an issuer.", hint="--issuer https://…, or a preset.")
    check_name(asked.project)
    now, organization = services.clock(), exchange.organization
    project = await project_by_name(services.database, organization.name, asked.project)
    audience = asked.audience if asked.audience is not None else _own_audience(services)
    rule = TrustRule(
        id=new_id(now),
        organization=organization.id,
        project=project.id if project else None,
        project_name=project.name if project else asked.project,
        issuer=rules.check_issuer(issuer),
        audience=rules.check_audience(audience),
        claims=msgspec.json.encode(rules.check_claims(claims)).decode(),
        created_by=exchange.actor.person,
        created_at=now,
    )
    async with services.database.transaction() as connection:
        if await queries.count_rules(connection, organization.id) >= rules.MAX_RULES:
            raise HubError("bad-trust", f"An organization has at most {rules.MAX_RULES} rules.")
        await queries.add_rule(connection, rule)
    named = msgspec.structs.replace(rule, created_by=exchange.actor.name)
    return json_response(_message(exchange, named), 201)


async def _remove(services: Services, exchange: Exchange) -> Response:
    """What was opened by a rule ends with it."""
    rule = exchange.parameters["rule"]
    async with services.database.transaction() as connection:
        if not await queries.remove_rule(connection, exchange.organization.id, rule):
            raise not_found()
        await services.revocations.add_rule(connection, rule)
        for token in await queries.sessions_of_rule(connection, rule):
            await token_queries.revoke(connection, token, services.clock())
    return Response(status_code=204)


def _own_audience(services: Services) -> str:
    """What identities for this hub are made for unless a rule says otherwise: its host's name."""
    return urlsplit(services.settings.public_url).hostname or ""


def _message(exchange: Exchange, rule: TrustRule) -> Trust:
    return Trust(
        id=rule.id,
        organization=exchange.organization.name,
        project=rule.project_name,
        pending=rule.project is None,
        issuer=rule.issuer,
        audience=rule.audience,
        claims=rule.patterns,
        created_by=rule.created_by,
        created_at=rule.created_at,
    )
