"""The plan of a deployment over HTTP.

With GET where a host runs releases that it names, with POST where it tells what is in its store. Both take
`If-None-Match`: a host that is where it should be gets 304, which costs the hub four look-ups and no token.
"""

from typing import Final

from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.cache.sending import matches, send_json
from piste.hub.http import read_json
from piste.hub.plan.planning import Planner, etag_of
from piste.hub.resolve.resolving import resolve
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.wire.plan import PlanRequest

_PATTERN: Final = "/api/v1/projects/{org}/{project}/plan/{requirement}/{attribute}"


def routes(services: Services) -> list[Route]:
    """The routes of stage 6."""
    handlers = _Handlers(services)
    ask = Permission.OUTPUT_RESOLVE
    return [
        Route("GET", _PATTERN, ask, Scope.PROJECT, handlers.by_releases),
        Route("POST", _PATTERN, ask, Scope.PROJECT, handlers.by_paths),
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._planner = Planner(services)

    async def by_releases(self, exchange: Exchange) -> Response:
        named = exchange.request.query_params.getlist("have")
        return await self._plan(exchange, PlanRequest(have=[f"sha256:{digest}" for digest in named]))

    async def by_paths(self, exchange: Exchange) -> Response:
        return await self._plan(exchange, await read_json(exchange, PlanRequest, empty=PlanRequest()))

    async def _plan(self, exchange: Exchange, said: PlanRequest) -> Response:
        project, actor, asked = exchange.project, exchange.actor, exchange.parameters
        resolution = await resolve(
            self._services, project, actor, asked["requirement"], asked["attribute"], token=False
        )
        etag = etag_of(resolution)
        # The answer holds a token.
        headers = {"ETag": etag, "Cache-Control": "private, no-store"}
        if matches(exchange.request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        answer = await self._planner.plan(project, actor, resolution, said)
        return await send_json(exchange.request, self._services, answer, headers)
