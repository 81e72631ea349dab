"""What a cache tells of builds: logs, build traces, debug information. All of it can quote source, so it has
a permission of its own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response, StreamingResponse

from piste.hub.access.records import Permission, Project
from piste.hub.cache import logs, queries, reading, traces
from piste.hub.cache.records import nar_file
from piste.hub.cache.rules import NarFile, accepts_zstd
from piste.hub.errors import HubError, not_found
from piste.hub.http import json_response, stream_body, whole_body
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.nix.listing import BUILD_ID, debug_member
from piste.nix.realisation import DrvOutput, RealisationError, format_realisation

TRACE_LIMIT: Final = 1 << 20
DEBUG_LIMIT: Final = 1 << 20
_PROJECT: Final = "/cache/{org}/{project}"
_OLD_TRACE: Final = "/realisations/{entry}.doi"
_TRACE: Final = "/build-trace-v2/{drv}/{output}.doi"

_Handler = Callable[[Exchange, Project | None], Awaitable[Response]]


def routes(services: Services) -> list[Route]:
    """Read at the root and at a project, put at a project."""
    builds = _Builds(services)
    write = Permission.CACHE_WRITE
    table = [
        Route("PUT", _PROJECT + "/log/{drv}", write, Scope.PROJECT, builds.take_log, logs.LOG_LIMIT),
        Route("PUT", _PROJECT + _OLD_TRACE, write, Scope.PROJECT, builds.take_trace, TRACE_LIMIT),
        Route("PUT", _PROJECT + _TRACE, write, Scope.PROJECT, builds.take_trace, TRACE_LIMIT),
        Route("PUT", _PROJECT + "/debuginfo/{build_id}", write, Scope.PROJECT, builds.ignored, DEBUG_LIMIT),
    ]
    both: list[tuple[str, _Handler]] = [
        ("/log/{drv}", builds.log),
        (_OLD_TRACE, builds.trace),
        (_TRACE, builds.trace),
        ("/debuginfo/{build_id}", builds.debug),
    ]
    for pattern, handler in both:
        at = _At(handler)
        table.append(Route("GET", pattern, Permission.CACHE_LOG, Scope.HUB, at.root))
        table.append(Route("GET", _PROJECT + pattern, Permission.CACHE_LOG, Scope.PROJECT, at.project))
    return table


@dataclass(frozen=True)
class _At:
    handler: _Handler

    async def root(self, exchange: Exchange) -> Response:
        return await self.handler(exchange, None)

    async def project(self, exchange: Exchange) -> Response:
        return await self.handler(exchange, exchange.project)


class _Builds:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def log(self, exchange: Exchange, project: Project | None) -> Response:
        name = logs.checked_name(exchange.parameters["drv"])
        key = await logs.log_of(self._services, exchange.actor, project, name)
        headers = {"Content-Security-Policy": "sandbox", "Vary": "Accept-Encoding"}
        if accepts_zstd(exchange.request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "zstd"
            pieces = self._services.objects.stream(key)
        else:
            pieces = logs.plain_pieces(self._services, key)
        return StreamingResponse(pieces, media_type="text/plain; charset=utf-8", headers=headers)

    async def trace(self, exchange: Exchange, project: Project | None) -> Response:
        about = _about(exchange)
        if about is None:
            raise not_found()
        found = await traces.trace_of(self._services, exchange.actor, project, about)
        return Response(format_realisation(found), media_type="application/json")

    async def debug(self, exchange: Exchange, project: Project | None) -> Response:
        """Where the debug information of a build id is: the NAR, and the file within."""
        build_id = exchange.parameters["build_id"].removesuffix(".debug")
        if not BUILD_ID.fullmatch(build_id):
            raise not_found()
        services, within = self._services, project.id if project is not None else ""
        reach = services.guard.reach(exchange.actor)
        for nar_hash in await queries.nars_with_debug_file(services.database, within, reach, build_id):
            file = NarFile(nar_hash.removeprefix("sha256:"), ".zst")
            holders = await reading.holders_of(services, exchange.actor, project, file)
            if any(path.upstream is None for path in holders):
                archive = f"../nar/{nar_file(nar_hash, 'zstd')}"
                return json_response({"archive": archive, "member": debug_member(build_id)})
        raise not_found()

    async def take_log(self, exchange: Exchange) -> Response:
        name = logs.checked_name(exchange.parameters["drv"])
        encoding = exchange.request.headers.get("content-encoding", "")
        await logs.take_log(self._services, exchange.project, name, encoding, stream_body(exchange))
        return Response(status_code=201)

    async def take_trace(self, exchange: Exchange) -> Response:
        about = _about(exchange)
        if about is None:
            raise HubError("bad-name", "This names no output of a derivation.")
        try:
            text = (await whole_body(exchange)).decode()
        except UnicodeDecodeError as error:
            raise HubError("bad-path-info", "The build trace is not text.") from error
        await traces.take_trace(self._services, exchange.project, about, text)
        return Response(status_code=201)

    async def ignored(self, exchange: Exchange) -> Response:
        """What stock clients put and the hub finds itself."""
        async for _ in stream_body(exchange):
            pass
        return Response(status_code=200)


def _about(exchange: Exchange) -> DrvOutput | None:
    asked = exchange.parameters
    try:
        if "entry" in asked:
            return DrvOutput.parse(asked["entry"])
        about = DrvOutput(asked["drv"], asked["output"])
    except RealisationError:
        return None
    return None if about.is_hash else about
