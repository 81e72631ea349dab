"""Projects, releases and sources over HTTP. Decides nothing."""

from typing import Final

from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.http import json_response, read_json
from piste.hub.registry import projects, queries, rules
from piste.hub.registry.choosing import choose, exactly, matching, parse_requirement
from piste.hub.registry.deleting import delete_release
from piste.hub.registry.details import as_release, release_details
from piste.hub.registry.records import ReleaseRow
from piste.hub.registry.sources import send_source
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.hub.trail import note
from piste.wire import releases as wire

_BASE: Final = "/api/v1/projects/{org}/{project}"
_ONE: Final = _BASE + "/releases/{requirement}"
_P = Permission


def routes(services: Services) -> list[Route]:
    """The routes of stage 2."""
    project, release, source = _Projects(services), _Releases(services), _Sources(services)
    creation = "/api/v1/organizations/{org}/projects"
    yank = _BASE + "/releases/{version}/yank"
    return [
        Route("POST", creation, _P.PROJECT_CREATE, Scope.ORGANIZATION, project.create),
        Route("GET", "/api/v1/projects", _P.LIST, Scope.HUB, project.search),
        Route("GET", _BASE, _P.PROJECT_READ, Scope.PROJECT, project.show),
        Route("PATCH", _BASE, _P.PROJECT_ADMIN, Scope.PROJECT, project.change),
        Route("DELETE", _BASE, _P.PROJECT_ADMIN, Scope.PROJECT, project.delete),
        Route("GET", _BASE + "/releases", _P.PROJECT_READ, Scope.PROJECT, release.list),
        Route("GET", _BASE + "/versions/{requirement}", _P.PROJECT_READ, Scope.PROJECT, release.versions),
        Route("GET", _ONE, _P.PROJECT_READ, Scope.PROJECT, release.details),
        Route("GET", _ONE + "/source", _P.PROJECT_SOURCE, Scope.PROJECT, source.of_release),
        Route("DELETE", _BASE + "/releases/{version}", _P.PROJECT_ADMIN, Scope.PROJECT, release.delete),
        Route("PUT", yank, _P.PROJECT_ADMIN, Scope.PROJECT, release.yank),
        Route("DELETE", yank, _P.PROJECT_ADMIN, Scope.PROJECT, release.unyank),
    ]


class _Projects:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def create(self, exchange: Exchange) -> Response:
        message = await read_json(exchange, wire.NewProject)
        self._services.guard.check_create(exchange.actor, exchange.organization, message.name)
        return json_response(await projects.create(self._services, exchange.organization, message), 201)

    async def search(self, exchange: Exchange) -> Response:
        asked = exchange.request.query_params
        found = await projects.search(
            self._services,
            exchange.actor,
            organization=asked.get("organization"),
            text=asked.get("query", ""),
            label=asked.get("label"),
        )
        return json_response(found)

    async def show(self, exchange: Exchange) -> Response:
        return json_response(await projects.show(self._services, exchange.project))

    async def change(self, exchange: Exchange) -> Response:
        message = await read_json(exchange, wire.ProjectChange)
        return json_response(await projects.change(self._services, exchange.project, message))

    async def delete(self, exchange: Exchange) -> Response:
        await projects.delete(self._services, exchange.project)
        return Response(status_code=204)


class _Releases:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def list(self, exchange: Exchange) -> Response:
        limit = rules.parse_limit(exchange.request.query_params.get("limit"))
        rows = await queries.releases(self._services.database, exchange.project.id, None, None, limit)
        return json_response([as_release(exchange.project, row) for row in rows])

    async def versions(self, exchange: Exchange) -> Response:
        requirement = parse_requirement(exchange.parameters["requirement"])
        rows = await matching(self._services.database, exchange.project.id, requirement)
        return json_response([as_release(exchange.project, row) for row in rows])

    async def details(self, exchange: Exchange) -> Response:
        requirement = parse_requirement(exchange.parameters["requirement"])
        project = exchange.project
        row = await choose(self._services.database, project, requirement, yanked=True)
        return json_response(await release_details(self._services, project, row))

    async def delete(self, exchange: Exchange) -> Response:
        row = await exactly(self._services.database, exchange.project, exchange.parameters["version"])
        await delete_release(self._services, exchange.project, row)
        return Response(status_code=204)

    async def yank(self, exchange: Exchange) -> Response:
        message = await read_json(exchange, wire.Yank)
        rules.check_reason(message.reason)
        services = self._services
        row = await exactly(services.database, exchange.project, exchange.parameters["version"])
        async with services.database.transaction() as connection:
            await queries.set_yank(connection, row.id, row.yanked_at or services.clock(), message.reason)
            note(f"version {row.version}{' for security' if message.security else ''}")
            if message.security:
                for output in await queries.outputs(connection, row.id):
                    if output.manifest is not None:
                        await services.revocations.add_manifest(
                            connection, exchange.project.id, output.manifest
                        )
        return await self._now(exchange, row)

    async def unyank(self, exchange: Exchange) -> Response:
        row = await exactly(self._services.database, exchange.project, exchange.parameters["version"])
        async with self._services.database.transaction() as connection:
            await queries.set_yank(connection, row.id, None, None)
            note(f"version {row.version}")
        return await self._now(exchange, row)

    async def _now(self, exchange: Exchange, row: ReleaseRow) -> Response:
        changed = await queries.release_by_id(self._services.database, exchange.project.id, row.id)
        return json_response(as_release(exchange.project, changed or row))


class _Sources:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def of_release(self, exchange: Exchange) -> Response:
        requirement = parse_requirement(exchange.parameters["requirement"])
        row = await choose(self._services.database, exchange.project, requirement, yanked=True)
        # Tomorrow the same range may mean another release.
        return await send_source(self._services, exchange.request, exchange.project, row, caching="no-cache")
