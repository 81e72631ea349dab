"""Publishing over HTTP: messages in, messages out. Decides nothing."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import msgspec
from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.cache.records import PathRecord
from piste.hub.http import json_response, read_json, stream_body, whole_body
from piste.hub.publish import declaring, finishing, gathering, opening, parts, rules, uploading
from piste.hub.publish.receiving import nars_of
from piste.hub.publish.records import PublicationRow
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.wire.publication import Finish, OpenPublication, Unsigned

DECLARATION_LIMIT: Final = 32 << 20
NARS_LIMIT: Final = 1 << 40
STATEMENTS_LIMIT: Final = 32 << 20

_BASE: Final = "/api/v1/projects/{org}/{project}/publications"
_ONE: Final = _BASE + "/{publication}"


def routes(services: Services) -> list[Route]:
    """The routes of stage 1."""
    publishing = _Publishing(services)
    table = [
        ("POST", _BASE, publishing.open, 1 << 20),
        ("GET", _ONE, publishing.show, 0),
        ("DELETE", _ONE, publishing.abandon, 0),
        ("POST", _ONE + "/declarations", publishing.declare, DECLARATION_LIMIT),
        ("POST", _ONE + "/nars", publishing.nars, NARS_LIMIT),
        ("PUT", _ONE + "/parts/{upload}/{part}", publishing.part, parts.PART_LIMIT),
        ("PUT", _ONE + "/source", publishing.source, rules.SOURCE_LIMIT),
        ("GET", _ONE + "/paths", publishing.paths, 0),
        ("POST", _ONE + "/finish", publishing.finish, STATEMENTS_LIMIT),
    ]
    return [
        Route(method, pattern, Permission.PROJECT_PUBLISH, Scope.PROJECT, handler, limit)
        for method, pattern, handler, limit in table
    ]


class _Publishing:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def open(self, exchange: Exchange) -> Response:
        message = await read_json(exchange, OpenPublication)
        publication, created = await opening.open_publication(
            self._services, exchange.project, exchange.actor, message
        )
        return json_response(publication, 201 if created else 200)

    async def show(self, exchange: Exchange) -> Response:
        row = await self._row(exchange)
        return json_response(await opening.describe(self._services, exchange.project, row))

    async def abandon(self, exchange: Exchange) -> Response:
        await opening.abandon(
            self._services, exchange.project, exchange.actor, exchange.parameters["publication"]
        )
        return Response(status_code=204)

    async def declare(self, exchange: Exchange) -> Response:
        row = await self._open_row(exchange)
        services, project = self._services, exchange.project
        async with services.workers.place(project.organization):
            data = await whole_body(exchange)
            async with services.workers.taking_apart:
                declaration = await services.workers.run(declaring.declaration_from, data)
                answer = await declaring.declare(services, project, exchange.actor, row, declaration)
        return json_response(answer)

    async def nars(self, exchange: Exchange) -> Response:
        return json_response(await nars_of(self._services, exchange, await self._open_row(exchange)))

    async def part(self, exchange: Exchange) -> Response:
        row = await self._open_row(exchange)
        place = (exchange.parameters["upload"], exchange.parameters["part"])
        await parts.take_part(self._services, exchange.project, row, place, stream_body(exchange))
        return Response(status_code=204)

    async def source(self, exchange: Exchange) -> Response:
        row = await self._open_row(exchange)
        await uploading.take_source(self._services, exchange.project, row, stream_body(exchange))
        return Response(status_code=204)

    async def paths(self, exchange: Exchange) -> Response:
        services, project = self._services, exchange.project
        row = await self._open_row(exchange)
        pieces: list[bytes] = []
        with ExitStack() as files:
            found = await gathering.staged_paths(services, project, exchange.actor, row, files)
            async for some in services.workers.each(found.pages()):
                pieces.append(await services.workers.run(_described, some))
        return Response(b"[" + b",".join(pieces) + b"]", media_type="application/json")

    async def finish(self, exchange: Exchange) -> Response:
        row = await self._row(exchange)
        said = await read_json(exchange, Finish, empty=Finish())
        answer = await finishing.finish(self._services, exchange.project, exchange.actor, row, said)
        return json_response(answer, 202 if isinstance(answer, Unsigned) else 200)

    async def _row(self, exchange: Exchange) -> PublicationRow:
        asked = exchange.parameters["publication"]
        return await opening.find(self._services, exchange.project, exchange.actor, asked)

    async def _open_row(self, exchange: Exchange) -> PublicationRow:
        asked = exchange.parameters["publication"]
        return await opening.find_open(self._services, exchange.project, exchange.actor, asked)


def _described(paths: Sequence[PathRecord]) -> bytes:
    """The inside of a list of them."""
    return msgspec.json.encode(rules.described(paths))[1:-1]
