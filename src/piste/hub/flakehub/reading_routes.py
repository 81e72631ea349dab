"""What `fh` asks: listings, versions, releases, outputs, and who one is. Each is an operation that Piste's
own API has too, told in other words.

`fh list` ignores the status and looks for an array; what shows one thing passes for any 2xx, but an output
needs exactly 200.
"""

import re
from typing import Final
from urllib.parse import unquote

from starlette.responses import Response

from piste.hub.access.records import Kind, Permission, Project
from piste.hub.access.status import status_of
from piste.hub.errors import HubError
from piste.hub.flakehub import shapes
from piste.hub.flakehub.errors import format_error, format_resolve_error
from piste.hub.flakehub.output_shapes import output_tree
from piste.hub.http import json_response
from piste.hub.registry import projects, queries
from piste.hub.registry.choosing import (
    MATCHES_LIMIT,
    choose,
    matching,
    newest_first,
    parse_requirement,
)
from piste.hub.registry.details import as_release, release_details
from piste.hub.resolve.resolving import resolve
from piste.hub.routing import Exchange, FormatError, Handler, Route, Scope
from piste.hub.services import Services
from piste.wire.releases import ReleaseDetails

_P = Permission
_PROJECT: Final = "/f/{org}/{project}"
_OUTPUT: Final = _PROJECT + "/{requirement}/output/{attribute}"
_LATEST: Final = "*"
_MANY_OUTPUTS: Final = 200  # some 2 ms
_ESCAPE: Final = re.compile("%[0-9A-Fa-f]{2}")


def routes(services: Services) -> list[Route]:
    hub, one = _Hub(services), _OneProject(services)
    return [
        _route("/cli/status", _P.STATUS, Scope.HUB, hub.status),
        _route("/search", _P.LIST, Scope.HUB, hub.search),
        _route("/flakes", _P.LIST, Scope.HUB, hub.flakes),
        _route("/label/{label}", _P.LIST, Scope.HUB, hub.label),
        _route("/orgs", _P.LIST, Scope.HUB, hub.organizations),
        _route("/orgs/{owner}/projects", _P.LIST, Scope.HUB, hub.projects),
        _route(_PROJECT, _P.PROJECT_READ, Scope.PROJECT, one.latest),
        _route(_PROJECT + "/releases", _P.PROJECT_READ, Scope.PROJECT, one.releases),
        _route(_PROJECT + "/{requirement}/outputs", _P.PROJECT_READ, Scope.PROJECT, one.outputs),
        _route(_OUTPUT, _P.OUTPUT_RESOLVE, Scope.PROJECT, one.output, format_resolve_error),
        _route("/version/{org}/{project}/{requirement}", _P.PROJECT_READ, Scope.PROJECT, one.version),
        _route(
            "/version/resolve/{org}/{project}/{requirement}", _P.PROJECT_READ, Scope.PROJECT, one.versions
        ),
    ]


def _route(
    pattern: str,
    permission: Permission,
    scope: Scope,
    handler: Handler,
    errors: FormatError = format_error,
) -> Route:
    return Route("GET", pattern, permission, scope, handler, format_error=errors)


class _Hub:
    """What is asked of the hub as a whole."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def status(self, exchange: Exchange) -> Response:
        if exchange.actor.kind is Kind.NOBODY:
            raise HubError(
                "credential-missing",
                "This needs a credential.",
                hint="`fh login --token-file FILE` stores one.",
            )
        return json_response(shapes.cli_status(await status_of(self._services, exchange.actor)))

    async def search(self, exchange: Exchange) -> Response:
        return await self._flakes(exchange, text=exchange.request.query_params.get("q", ""))

    async def flakes(self, exchange: Exchange) -> Response:
        return await self._flakes(exchange)

    async def label(self, exchange: Exchange) -> Response:
        return await self._flakes(exchange, label=exchange.parameters["label"])

    async def projects(self, exchange: Exchange) -> Response:
        found = await projects.search(
            self._services,
            exchange.actor,
            organization=exchange.parameters["owner"],
            text="",
            label=None,
        )
        return json_response([shapes.project_row(each) for each in found])

    async def organizations(self, exchange: Exchange) -> Response:
        public = exchange.request.query_params.get("include_public") == "true"
        found = await projects.owners(self._services, exchange.actor, public=public)
        return json_response([shapes.OrganizationRow(name) for name in found])

    async def _flakes(self, exchange: Exchange, text: str = "", label: str | None = None) -> Response:
        found = await projects.search(
            self._services, exchange.actor, organization=None, text=text, label=label
        )
        return json_response([shapes.flake_row(each) for each in found])


class _OneProject:
    """What is asked of one project."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def releases(self, exchange: Exchange) -> Response:
        """All of them, or a page for whoever names its first row."""
        services, project = self._services, exchange.project
        offset = exchange.request.query_params.get("offset")
        start, count = (0, MATCHES_LIMIT) if offset is None else (_offset(offset), shapes.PAGE)
        found, total = await newest_first(services.database, project.id, start, count)
        return await services.workers.run(
            lambda: json_response(
                shapes.release_rows(
                    [as_release(project, row) for row in found], project.visibility, start, total
                )
            )
        )

    async def versions(self, exchange: Exchange) -> Response:
        requirement = parse_requirement(_decoded_again(exchange.parameters["requirement"]))
        found = await matching(self._services.database, exchange.project.id, requirement)
        return json_response([shapes.version_row(row.version) for row in found if row.yanked_at is None])

    async def version(self, exchange: Exchange) -> Response:
        return await self._object(exchange.project, exchange.parameters["requirement"])

    async def latest(self, exchange: Exchange) -> Response:
        return await self._object(exchange.project, _LATEST)

    async def outputs(self, exchange: Exchange) -> Response:
        details, _ = await self._details(exchange.project, exchange.parameters["requirement"])
        return json_response(output_tree(details.outputs))

    async def output(self, exchange: Exchange) -> Response:
        found = await resolve(
            self._services,
            exchange.project,
            exchange.actor,
            exchange.parameters["requirement"],
            exchange.parameters["attribute"],
            token=exchange.request.query_params.get("include_token") == "true",
        )
        return json_response(shapes.resolved_output(found), headers={"Cache-Control": "no-store"})

    async def _object(self, project: Project, requirement: str) -> Response:
        services = self._services
        details, place = await self._details(project, requirement)
        document = await queries.release_document(services.database, details.release.id)
        public_url = services.settings.public_url

        def show() -> Response:
            return json_response(
                shapes.release_object(details, project.visibility, public_url, place, document)
            )

        heavy = document is not None or len(details.outputs) > _MANY_OUTPUTS
        return await services.workers.run(show) if heavy else show()

    async def _details(self, project: Project, requirement: str) -> tuple[ReleaseDetails, tuple[int, int]]:
        database = self._services.database
        row = await choose(database, project, parse_requirement(requirement))
        place = await queries.place_of(database, project.id, row.published_at)
        return await release_details(self._services, project, row), place


def _decoded_again(text: str) -> str:
    """`fh list versions` encodes its constraint twice, and no constraint has a percent sign."""
    return unquote(text, errors="replace") if _ESCAPE.search(text) else text


def _offset(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise HubError("bad-request", "The offset is a number of rows.")
    return int(text)
