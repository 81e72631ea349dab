"""Device tokens as a branch of `fh` that was never released asks for them: list, make, end.

They are the hub's own, which its other clients see too.
"""

import msgspec
from starlette.responses import Response

from piste.hub.access import keeping, token_queries, token_rules
from piste.hub.access.creating import Wanted
from piste.hub.access.records import Kind, Permission
from piste.hub.errors import not_found
from piste.hub.flakehub.errors import format_error
from piste.hub.http import json_response, read_json
from piste.hub.routing import Exchange, Handler, Route, Scope
from piste.hub.services import Services
from piste.wire.tokens import NewToken


class NewDeviceToken(msgspec.Struct, frozen=True):
    description: str


class DeviceToken(msgspec.Struct, frozen=True):
    uuid_v7: str
    description: str


class CreatedDeviceToken(msgspec.Struct, frozen=True):
    token: str
    actor_id: str


def routes(services: Services) -> list[Route]:
    tokens = _DeviceTokens(services)
    return [
        _route("GET", "/orgs/{org}/device_tokens", tokens.list),
        _route("POST", "/orgs/{org}/device_token", tokens.create),
        _route("POST", "/orgs/{org}/device_token/{token}/revoke", tokens.revoke),
    ]


def _route(method: str, pattern: str, handler: Handler) -> Route:
    permission = Permission.ORGANIZATION_ADMIN
    return Route(method, pattern, permission, Scope.ORGANIZATION, handler, format_error=format_error)


class _DeviceTokens:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, exchange: Exchange) -> Response:
        rows = await token_queries.tokens_of(self._services.database, exchange.organization.id)
        held = [row for row in rows if row["kind"] == Kind.DEVICE and row["revoked_at"] is None]
        return json_response([DeviceToken(row["id"], row["description"]) for row in held])

    async def create(self, exchange: Exchange) -> Response:
        asked = await read_json(exchange, NewDeviceToken)
        kind = token_rules.check_kind(NewToken(Kind.DEVICE, asked.description))
        wanted = Wanted(kind, asked.description, token_rules.lifetime(kind, None))
        created = await keeping.add(self._services, exchange, wanted)
        message = CreatedDeviceToken(created.token, created.id)
        return json_response(message, headers={"Cache-Control": "no-store"})

    async def revoke(self, exchange: Exchange) -> Response:
        row = await token_queries.token_of(
            self._services.database, exchange.organization.id, exchange.parameters["token"]
        )
        if row is None or row["kind"] != Kind.DEVICE:
            raise not_found()
        await keeping.end(self._services, row)
        return json_response({})
