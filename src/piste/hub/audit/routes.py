"""The audit log over HTTP: NDJSON, oldest first, as long as the reader wants it."""

from collections.abc import AsyncIterator
from functools import partial

from starlette.responses import Response, StreamingResponse

from piste.hub.access.records import Permission
from piste.hub.audit import reading
from piste.hub.audit.log import HUB_CHAIN
from piste.hub.errors import HubError
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services


def routes(services: Services) -> list[Route]:
    one = "/api/v1/organizations/{org}/audit"
    return [
        Route("GET", one, Permission.ORGANIZATION_ADMIN, Scope.ORGANIZATION, partial(_of_one, services)),
        Route("GET", "/api/v1/audit", Permission.HUB_AUDIT, Scope.HUB, partial(_of_hub, services)),
    ]


async def _of_one(services: Services, exchange: Exchange) -> Response:
    return await _export(services, exchange, exchange.organization.id)


async def _of_hub(services: Services, exchange: Exchange) -> Response:
    return await _export(services, exchange, HUB_CHAIN)


async def _export(services: Services, exchange: Exchange, chain: str) -> Response:
    text = exchange.request.query_params.get("since")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise HubError("bad-request", "`since` is a number of microseconds since 1970.")
    await services.audit.flush()  # what this process has refused belongs to the answer
    since = int(text) if text is not None else None

    async def pieces() -> AsyncIterator[bytes]:
        async for line in reading.lines(services.database, chain, since):
            yield line.encode() + b"\n"

    return StreamingResponse(
        pieces(), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"}
    )
