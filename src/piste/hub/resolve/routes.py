"""Resolution over HTTP. Decides nothing."""

from functools import partial
from typing import Final

from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.http import json_response
from piste.hub.resolve.resolving import resolve
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services

_PATTERN: Final = "/api/v1/projects/{org}/{project}/resolve/{requirement}/{attribute}"


def routes(services: Services) -> list[Route]:
    """The routes of stage 5."""
    return [Route("GET", _PATTERN, Permission.OUTPUT_RESOLVE, Scope.PROJECT, partial(_resolve, services))]


async def _resolve(services: Services, exchange: Exchange) -> Response:
    asked = exchange.parameters
    found = await resolve(
        services,
        exchange.project,
        exchange.actor,
        asked["requirement"],
        asked["attribute"],
        token=exchange.request.query_params.get("token") == "true",
    )
    return json_response(found, headers={"Cache-Control": "no-store"})
