"""The Nix binary cache over HTTP: one address for each project, and the root, which only reads.

Stock clients decide what these answers look like; for a narinfo, any doubt is a 404, so that Nix goes on to
the next cache.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.responses import Response, StreamingResponse

from piste.hub.access.records import Permission, Project
from piste.hub.cache import build_routes, bundles, pushing, queries, reading
from piste.hub.cache.keep import listing_key, nar_key
from piste.hub.cache.recompress import recompressed
from piste.hub.cache.rules import CACHE_INFO, NarFile, accepts_zstd, parse_nar_file, pushed_compression
from piste.hub.cache.sending import immutable, send_json, send_object
from piste.hub.errors import HubError, not_found
from piste.hub.http import stream_body, whole_body
from piste.hub.registry.outputs import manifest_key, packed_manifest_key
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.lib.zstd import zstd
from piste.nix.narinfo import format_narinfo

NAR_BODY_LIMIT: Final = 1 << 40
NARINFO_LIMIT: Final = 2 << 20
LISTING_LIMIT: Final = 64 << 20
INFO_TYPE: Final = "text/x-nix-cache-info"
NARINFO_TYPE: Final = "text/x-nix-narinfo"
NAR_TYPE: Final = "application/x-nix-nar"

_PROJECT: Final = "/cache/{org}/{project}"
_HEX: Final = re.compile(r"[0-9a-f]{64}")

_Handler = Callable[[Exchange, Project | None], Awaitable[Response]]


def routes(services: Services) -> list[Route]:
    """The routes of stage 3."""
    reader, writer = _Reader(services), _Writer(services)
    read, write = Permission.CACHE_READ, Permission.CACHE_WRITE
    table = [
        Route("GET", "/nix-cache-info", Permission.PUBLIC, Scope.HUB, reader.cache_info),
        Route("GET", _PROJECT + "/nix-cache-info", read, Scope.PROJECT, reader.cache_info),
        Route("GET", _PROJECT + "/manifest/{digest}", read, Scope.PROJECT, reader.manifest),
        Route("GET", _PROJECT + "/manifest/{digest}/sources", read, Scope.PROJECT, reader.sources),
        Route("GET", _PROJECT + "/manifest/{digest}/nars", read, Scope.PROJECT, reader.bundle),
        Route("PUT", _PROJECT + "/nix-cache-info", write, Scope.PROJECT, writer.ignored),
        Route("PUT", _PROJECT + "/{hash}.ls", write, Scope.PROJECT, writer.ignored, LISTING_LIMIT),
        Route("PUT", _PROJECT + "/{hash}.narinfo", write, Scope.PROJECT, writer.narinfo, NARINFO_LIMIT),
        Route("PUT", _PROJECT + "/nar/{file}", write, Scope.PROJECT, writer.nar, NAR_BODY_LIMIT),
    ]
    table += build_routes.routes(services)
    both: list[tuple[str, _Handler]] = [
        ("/{hash}.narinfo", reader.narinfo),
        ("/{hash}.ls", reader.listing),
        ("/nar/{file}", reader.nar),
    ]
    for pattern, handler in both:
        table.append(Route("GET", pattern, read, Scope.HUB, _at_root(handler)))
        table.append(Route("GET", _PROJECT + pattern, read, Scope.PROJECT, _at_project(handler)))
    return table


def _at_root(handler: _Handler) -> Callable[[Exchange], Awaitable[Response]]:
    async def handle(exchange: Exchange) -> Response:
        return await handler(exchange, None)

    return handle


def _at_project(handler: _Handler) -> Callable[[Exchange], Awaitable[Response]]:
    async def handle(exchange: Exchange) -> Response:
        return await handler(exchange, exchange.project)

    return handle


class _Reader:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def cache_info(self, exchange: Exchange) -> Response:
        return Response(CACHE_INFO, media_type=INFO_TYPE)

    async def narinfo(self, exchange: Exchange, project: Project | None) -> Response:
        path = await reading.path_of(self._services, exchange.actor, project, exchange.parameters["hash"])
        if path is None:
            raise reading.missing(exchange.actor)
        return Response(format_narinfo(path.narinfo()), media_type=NARINFO_TYPE)

    async def listing(self, exchange: Exchange, project: Project | None) -> Response:
        path = await reading.path_of(self._services, exchange.actor, project, exchange.parameters["hash"])
        data = await self._services.objects.read(listing_key(path.nar_hash)) if path is not None else None
        # Of a pinned path the hub may hold a listing through another project; it says nothing of that.
        if path is None or path.upstream is not None or data is None:
            raise not_found()
        return await self._packed(exchange, data, {})

    async def nar(self, exchange: Exchange, project: Project | None) -> Response:
        name = exchange.parameters["file"]
        file = parse_nar_file(name)
        if file is None:
            raise not_found()
        holders = await reading.holders_of(self._services, exchange.actor, project, file)
        if file.suffix == ".zst" and any(path.upstream is None for path in holders):
            return await self._send_nar(exchange, file.nar_hash)
        address = reading.upstream_address(holders, file)
        if address is not None:
            return Response(status_code=307, headers={"Location": address})
        if project is not None:
            return await self._pushed(exchange, project, file, name)
        raise reading.missing(exchange.actor)

    async def _send_nar(self, exchange: Exchange, nar_hash: str) -> Response:
        return await send_object(
            exchange.request,
            self._services.objects,
            nar_key(nar_hash),
            media_type=NAR_TYPE,
            etag=nar_hash.removeprefix("sha256:"),
            headers={"Cache-Control": immutable(exchange.actor)},
        )

    async def _pushed(self, exchange: Exchange, project: Project, file: NarFile, name: str) -> Response:
        """A NAR by the name that a stock client gave it: whoever puts asks first whether it is there, and
        remembers the name as the one to get it by.
        """
        services = self._services
        row = await queries.pushed_nar(services.database, project.id, name)
        if row is None:
            raise reading.missing(exchange.actor)
        if exchange.request.method == "HEAD" and reading.may_see_pushed(services, exchange.actor, project):
            return Response(status_code=200, media_type=NAR_TYPE, headers={"Accept-Ranges": "bytes"})
        described = NarFile(row["nar_hash"].removeprefix("sha256:"), ".zst")
        holders = await reading.holders_of(services, exchange.actor, project, described)
        compression = pushed_compression(file, row["nar_hash"])
        if compression is None or not any(path.upstream is None for path in holders):
            raise reading.missing(exchange.actor)
        if compression == "zstd":
            return await self._send_nar(exchange, described.nar_hash)
        return StreamingResponse(recompressed(services, described.nar_hash, compression), media_type=NAR_TYPE)

    async def manifest(self, exchange: Exchange) -> Response:
        digest = await self._digest(exchange)
        headers = {"Cache-Control": immutable(exchange.actor), "ETag": f'"{digest}"'}
        data = await self._services.objects.read(packed_manifest_key(digest))
        if data is not None:
            return await self._packed(exchange, data, headers)
        plain = await self._services.objects.read(manifest_key(digest))
        if plain is None:
            raise not_found()
        return Response(plain, media_type="application/json", headers=headers)

    async def sources(self, exchange: Exchange) -> Response:
        digest = await self._digest(exchange)
        asked = exchange.request.query_params.get("places")
        if asked is not None:
            return await self._sources_at(exchange, digest, asked)
        sources = await reading.sources_of(self._services, exchange.project, digest)
        if sources is None:
            raise not_found()
        data = await self._services.workers.run(msgspec.json.encode, sources)
        return Response(data, media_type="application/json")

    async def _sources_at(self, exchange: Exchange, digest: str, asked: str) -> Response:
        contents = await self._services.closures.contents(digest)
        places = bundles.parse_places(asked, reading.PLACES_LIMIT)
        if contents is None or max(places) >= len(contents.listed):
            raise not_found()
        parts = {place: contents.listed[place] for place in places}
        found = await reading.sources_at(self._services, exchange.project, parts)
        return await send_json(exchange.request, self._services, found, {"Cache-Control": "no-store"})

    async def bundle(self, exchange: Exchange) -> Response:
        digest = await self._digest(exchange)
        asked = exchange.request.query_params.get("places", "")
        files = await bundles.files_of(self._services, exchange.project, digest, asked)
        headers = {
            "Cache-Control": immutable(exchange.actor),
            "Content-Length": str(sum(files.values())),
        }
        return await bundles.respond(
            exchange.request,
            self._services.objects,
            files,
            media_type="application/octet-stream",
            headers=headers,
        )

    async def _digest(self, exchange: Exchange) -> str:
        text = exchange.parameters["digest"]
        digest = f"sha256:{text}"
        project = exchange.project
        if not self._services.guard.may_read_manifest(exchange.actor, project, digest):
            raise not_found(reading.OUTSIDE)
        if not _HEX.fullmatch(text) or not await queries.has_manifest(
            self._services.database, project.id, digest
        ):
            raise not_found()
        return digest

    async def _packed(self, exchange: Exchange, data: bytes, headers: dict[str, str]) -> Response:
        """JSON that is kept as zstd, as it is for who takes that."""
        headers = {**headers, "Vary": "Accept-Encoding"}
        if accepts_zstd(exchange.request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "zstd"
        else:
            data = await self._services.workers.run(zstd.decompress, data)
        return Response(data, media_type="application/json", headers=headers)


class _Writer:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def ignored(self, exchange: Exchange) -> Response:
        """What stock clients put and the hub makes itself."""
        async for _ in stream_body(exchange):
            pass
        return Response(status_code=200)

    async def nar(self, exchange: Exchange) -> Response:
        name = exchange.parameters["file"]
        file = parse_nar_file(name)
        if file is None:
            raise HubError(
                "bad-name",
                f"{name[:200]!r} is no name of a NAR.",
                hint="It is <52 characters of nix32>.nar[.zst].",
            )
        await pushing.take_nar(self._services, exchange.project, file, name, stream_body(exchange))
        return Response(status_code=201)

    async def narinfo(self, exchange: Exchange) -> Response:
        data = await whole_body(exchange)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise HubError("bad-path-info", "The narinfo is not text.") from error
        await pushing.take_narinfo(self._services, exchange.project, exchange.parameters["hash"], text)
        return Response(status_code=201)
