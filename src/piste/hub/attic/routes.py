"""Attic's API over HTTP, within the project that a request names, and the names of FlakeHub Cache.

Translates and decides nothing: paths are taken in like those of any other client. What it says of missing
paths is of the project that the caller may write to, and of nothing else.
"""

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response

from piste.hub.access.records import Kind, Permission, Project
from piste.hub.attic import messages
from piste.hub.attic.messages import (
    INFO_HEADER,
    INFO_LIMIT,
    PREAMBLE_HEADER,
    MissingPaths,
    Uploaded,
    WantedPaths,
    format_error,
    parse_cache_name,
)
from piste.hub.cache import queries
from piste.hub.cache.pushing import take_path
from piste.hub.errors import HubError
from piste.hub.http import holding, json_response, read_json, stream_body
from piste.hub.naming import named_project
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.lib.spooled import PAGE
from piste.nix.store_path import StorePathError, parse_hash_part

# 100,000 hash parts, with what JSON has around them.
WANTED_LIMIT: Final = 4 << 20
NAR_LIMIT: Final = 1 << 40


def routes(services: Services) -> list[Route]:
    """The routes of the dialect."""
    attic = _Attic(services)
    read, write, named = Permission.CACHE_READ, Permission.CACHE_WRITE, Scope.NAMED
    api, shape = "/_api/v1", format_error
    config = api + "/cache-config/{name}"
    upload = api + "/upload-path"
    return [
        Route("GET", "/project", read, Scope.HUB, attic.own_project, format_error=shape),
        Route("GET", "/project/{org}/{project}", read, Scope.PROJECT, attic.project, format_error=shape),
        Route("GET", config, read, named, attic.config, format_error=shape),
        Route(
            "POST", api + "/get-missing-paths", write, named, attic.missing, WANTED_LIMIT, format_error=shape
        ),
        Route("PUT", upload, write, named, attic.upload, NAR_LIMIT, format_error=shape),
    ]


class _Attic:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def own_project(self, exchange: Exchange) -> Response:
        """The one project that the credential can push to."""
        if exchange.actor.kind is Kind.NOBODY:
            raise HubError("credential-missing", "This needs a credential.")
        found = await self._services.guard.writable_projects(exchange.actor)
        if len(found) != 1:
            raise HubError(
                "project-ambiguous",
                f"This credential can push to {len(found) or 'no'} projects, so it does not tell which is"
                " meant.",
                hint="Name it, as `--flakehub-flake-name ORG/PROJECT` does.",
            )
        return _ids(found[0])

    async def project(self, exchange: Exchange) -> Response:
        return _ids(exchange.project)

    async def config(self, exchange: Exchange) -> Response:
        services = self._services
        name = parse_cache_name(exchange.parameters["name"])
        project = await named_project(services, exchange, name, Permission.CACHE_READ)
        keys = await services.keyring.public_keys(project.organization)
        place = services.settings.public_url
        return json_response(
            messages.CacheConfig(
                substituter_endpoint=f"{place}/cache/{project.organization_name}/{project.name}",
                api_endpoint=f"{place}/",
                is_public=project.visibility == "public",
                # What the client leaves out for their sake the hub finds there by itself.
                upstream_cache_key_names=await services.upstreams.key_names(project.organization),
                public_key=str(keys[0]) if keys else None,
            )
        )

    async def missing(self, exchange: Exchange) -> Response:
        wanted = await read_json(exchange, WantedPaths)
        project = await named_project(
            self._services, exchange, parse_cache_name(wanted.cache), Permission.CACHE_WRITE
        )
        asked = await self._services.workers.run(_hash_parts, wanted)
        there: set[str] = set()
        for start in range(0, len(asked), PAGE):
            some = asked[start : start + PAGE]
            there.update(await queries.parts_of_project(self._services.database, project.id, some))
        return json_response(MissingPaths([part for part in asked if part not in there]))

    async def upload(self, exchange: Exchange) -> Response:
        data, body = await _description(exchange)
        said = messages.parse_description(data)
        project = await named_project(
            self._services, exchange, parse_cache_name(said.cache), Permission.CACHE_WRITE
        )
        kept, is_new = await take_path(self._services, project, messages.path_info(said), body)
        kind = "Uploaded" if is_new else "Deduplicated"
        return json_response(Uploaded(kind, kept.file_size, 0.0 if is_new else 1.0))


def _hash_parts(wanted: WantedPaths) -> list[str]:
    """Each once."""
    try:
        return list(dict.fromkeys(map(parse_hash_part, wanted.store_path_hashes)))
    except StorePathError as error:
        raise HubError("bad-path-info", f"{error}.") from error


def _ids(project: Project) -> Response:
    return json_response(messages.Project(project.organization, project.id))


async def _description(exchange: Exchange) -> tuple[bytes, AsyncIterator[bytes]]:
    """What is said of the NAR, and the NAR: a long description stands before it in the body."""
    headers = exchange.request.headers
    preamble = headers.get(PREAMBLE_HEADER)
    if preamble is None:
        if INFO_HEADER not in headers:
            raise HubError("bad-request", "Nothing says what the NAR is.", hint=f"Send {INFO_HEADER}.")
        return headers[INFO_HEADER].encode("latin-1"), stream_body(exchange)
    if not preamble.isascii() or not preamble.isdigit() or not 0 < int(preamble[:20]) <= INFO_LIMIT:
        raise HubError("bad-request", f"A description of {preamble[:50]!r} bytes is none.")
    return await _split(exchange, int(preamble))


async def _split(exchange: Exchange, size: int) -> tuple[bytes, AsyncIterator[bytes]]:
    body = stream_body(exchange)
    head = bytearray()
    with holding(exchange.actor) as held:
        async for piece in body:
            held.add(len(piece))
            head += piece
            if len(head) >= size:
                break
    if len(head) < size:
        raise HubError("bad-request", "The body ends within the description of the NAR.")
    return bytes(head[:size]), _chained(bytes(head[size:]), body)


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece
