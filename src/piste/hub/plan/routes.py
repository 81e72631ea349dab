"""The plan of a deployment over HTTP.

With GET where a host runs releases that it names, with POST where it tells what is in its store. Both take
`If-None-Match`: a host that is where it should be gets 304, which costs the hub four look-ups and no token.
"""

import re
from typing import Final

from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.cache.reading import OUTSIDE
from piste.hub.cache.sending import immutable, matches, send_json, send_object
from piste.hub.errors import not_found
from piste.hub.http import read_json
from piste.hub.plan import queries
from piste.hub.plan.bases import may_build_upon
from piste.hub.plan.planning import Planner, etag_of
from piste.hub.plan.records import Asked, delta_key
from piste.hub.resolve.resolving import resolve
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.wire.plan import PlanRequest

_PATTERN: Final = "/api/v1/projects/{org}/{project}/plan/{requirement}/{attribute}"

_DELTA: Final = "/cache/{org}/{project}/manifest/{digest}/deltas/{base}/{number}"
_NUMBER: Final = re.compile(r"[0-9]{1,6}")


def routes(services: Services) -> list[Route]:
    """The routes of stage 6."""
    handlers = _Handlers(services)
    ask = Permission.OUTPUT_RESOLVE
    return [
        Route("GET", _PATTERN, ask, Scope.PROJECT, handlers.by_releases),
        Route("POST", _PATTERN, ask, Scope.PROJECT, handlers.by_paths),
        Route("GET", _DELTA, Permission.CACHE_READ, Scope.PROJECT, handlers.delta),
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

    async def delta(self, exchange: Exchange) -> Response:
        """For who may read what it makes, and may resolve the release that it is made from as well."""
        services, project, actor = self._services, exchange.project, exchange.actor
        asked = exchange.parameters
        pair = Asked(project.id, f"sha256:{asked['base']}", f"sha256:{asked['digest']}")
        if not services.guard.may_read_manifest(actor, project, pair.target):
            raise not_found(OUTSIDE)
        if not await may_build_upon(services, actor, project, pair.base):
            raise not_found("the base is outside of what the token may resolve")
        number = asked["number"]
        row = None
        if _NUMBER.fullmatch(number):
            row = await queries.delta(services.database, pair, int(number))
        if row is None or not row.size:
            raise not_found()
        return await send_object(
            exchange.request,
            services.objects,
            delta_key(row.object),
            media_type="application/octet-stream",
            etag=row.object,
            headers={"Cache-Control": immutable(actor)},
        )
