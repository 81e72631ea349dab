"""Resolution over HTTP: a requirement and an attribute path in, one store path and how to read its closure
out.

What a bound credential may ask at all was decided before its request came here; what it may have is asked
after the release is known.
"""

from urllib.parse import quote

import msgspec
from starlette.responses import Response

from piste.hub.access.records import Kind, Permission, Project
from piste.hub.http import json_response
from piste.hub.registry import queries
from piste.hub.registry.availability import ensure_available
from piste.hub.registry.choosing import choose, parse_requirement
from piste.hub.registry.records import OutputRow, ReleaseRow
from piste.hub.resolve import rules
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from piste.nix.flake_ref import Reference, parse_attribute_path
from piste.semver.requirement import strip_url_form
from piste.wire.resolution import Resolution

_PATTERN = "/api/v1/projects/{org}/{project}/resolve/{requirement}/{attribute}"


def routes(services: Services) -> list[Route]:
    """The routes of stage 5."""
    resolver = _Resolver(services)
    return [Route("GET", _PATTERN, Permission.OUTPUT_RESOLVE, Scope.PROJECT, resolver.resolve)]


class _Resolver:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def resolve(self, exchange: Exchange) -> Response:
        services, project, actor = self._services, exchange.project, exchange.actor
        asked = exchange.parameters["requirement"]
        requirement = parse_requirement(asked)
        attribute = rules.parse_attribute(exchange.parameters["attribute"])
        release = await choose(services.database, project, requirement)
        services.guard.check_release(actor, asked, release.version)
        output = await self._output(exchange, release, attribute)
        resolution = self._resolution(project, strip_url_form(asked), release, output)
        if exchange.request.query_params.get("token") == "true":
            token, expires = await services.closures.issue(actor, project.id, resolution.manifest)
            resolution = msgspec.structs.replace(resolution, token=token, token_expires_at=expires)
        return json_response(resolution, headers={"Cache-Control": "no-store"})

    async def _output(self, exchange: Exchange, release: ReleaseRow, attribute: str) -> OutputRow:
        services, project = self._services, exchange.project
        shown = f"{project.organization_name}/{project.name}/={release.version}"
        output = await queries.output(services.database, release.id, attribute)
        if output is None:
            others: list[str] = []
            if exchange.actor.kind is not Kind.RESOLVE_ONLY:
                others = [row.attribute for row in await queries.outputs(services.database, release.id)]
            raise rules.attribute_not_found(attribute, shown, others)
        available = await ensure_available(services, project, release, output)
        if isinstance(available, int):
            raise rules.not_available(attribute, shown, available)
        return available

    def _resolution(
        self, project: Project, requirement: str, release: ReleaseRow, output: OutputRow
    ) -> Resolution:
        reference = Reference(
            project.organization_name, project.name, requirement, parse_attribute_path(output.attribute)
        )
        owner, name = quote(project.organization_name, safe=""), quote(project.name, safe="")
        return Resolution(
            reference=str(reference),
            organization=project.organization_name,
            project=project.name,
            requirement=requirement,
            version=release.version,
            attribute_path=output.attribute,
            store_path=output.store_path,
            system=output.system,
            release_id=release.id,
            manifest=output.manifest or "",
            statement=output.statement or "",
            statement_signatures=msgspec.json.decode(output.statement_signatures or "[]", type=list[str]),
            cache_url=f"{self._services.settings.public_url}/cache/{owner}/{name}",
        )
