"""Pushes over HTTP: messages in, messages out. Decides nothing."""

from typing import Final

from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.http import json_response, stream_body, whole_body
from piste.hub.publish import opening, parts
from piste.hub.publish.declaring import Listed, declaration_from, declare
from piste.hub.publish.receiving import nars_of
from piste.hub.publish.records import PUSH, PublicationRow
from piste.hub.pushes import pushing
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services

QUESTION_LIMIT: Final = 32 << 20
DECLARATION_LIMIT: Final = 32 << 20
NARS_LIMIT: Final = 1 << 40

_BASE: Final = "/api/v1/projects/{org}/{project}/pushes"
_ONE: Final = _BASE + "/{push}"


def routes(services: Services) -> list[Route]:
    """What pushes paths apart from any release."""
    pushes = _Pushes(services)
    table = [
        ("POST", _BASE + "/missing", pushes.missing, QUESTION_LIMIT),
        ("POST", _BASE, pushes.open, DECLARATION_LIMIT),
        ("DELETE", _ONE, pushes.abandon, 0),
        ("POST", _ONE + "/declarations", pushes.declare, DECLARATION_LIMIT),
        ("POST", _ONE + "/nars", pushes.nars, NARS_LIMIT),
        ("PUT", _ONE + "/parts/{upload}/{part}", pushes.part, parts.PART_LIMIT),
        ("POST", _ONE + "/finish", pushes.finish, 0),
    ]
    return [
        Route(method, pattern, Permission.CACHE_WRITE, Scope.PROJECT, handler, limit)
        for method, pattern, handler, limit in table
    ]


class _Pushes:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def missing(self, exchange: Exchange) -> Response:
        services = self._services
        data = await whole_body(exchange)
        async with services.workers.taking_apart:
            wanted = await services.workers.run(pushing.question_from, data)
        del data
        return json_response(await pushing.lacking(self._services, exchange.project, wanted))

    async def open(self, exchange: Exchange) -> Response:
        services, project = self._services, exchange.project
        async with services.workers.place(project.organization):
            declaration = await self._declaration(exchange)
            opened = await pushing.open_push(services, project, exchange.actor, declaration)
        return json_response(opened, 201)

    async def declare(self, exchange: Exchange) -> Response:
        services, project = self._services, exchange.project
        row = await self._open_row(exchange)
        async with services.workers.place(project.organization):
            declaration = await self._declaration(exchange)
            pushing.check_no_outputs(declaration)
            return json_response(await declare(services, project, exchange.actor, row, declaration))

    async def nars(self, exchange: Exchange) -> Response:
        return json_response(await nars_of(self._services, exchange, await self._open_row(exchange)))

    async def part(self, exchange: Exchange) -> Response:
        row = await self._open_row(exchange)
        place = (exchange.parameters["upload"], exchange.parameters["part"])
        await parts.take_part(self._services, exchange.project, row, place, stream_body(exchange))
        return Response(status_code=204)

    async def finish(self, exchange: Exchange) -> Response:
        row = await self._row(exchange)
        return json_response(await pushing.finish(self._services, exchange.project, exchange.actor, row))

    async def abandon(self, exchange: Exchange) -> Response:
        asked = exchange.parameters["push"]
        await opening.abandon(self._services, exchange.project, exchange.actor, asked, kind=PUSH)
        return Response(status_code=204)

    async def _declaration(self, exchange: Exchange) -> Listed:
        data = await whole_body(exchange)
        async with self._services.workers.taking_apart:
            return await self._services.workers.run(declaration_from, data)

    async def _row(self, exchange: Exchange) -> PublicationRow:
        asked = exchange.parameters["push"]
        return await opening.find(self._services, exchange.project, exchange.actor, asked, kind=PUSH)

    async def _open_row(self, exchange: Exchange) -> PublicationRow:
        asked = exchange.parameters["push"]
        return await opening.find_open(self._services, exchange.project, exchange.actor, asked, kind=PUSH)
