"""Releases as inputs of flakes, by Nix's protocol for tarballs that can be locked.

An address with a requirement leads on to one that never changes; its `Link` is what Nix writes into a lock.
Translates and decides nothing: which release a requirement means is the registry's to say.
"""

from typing import Final

from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.cache.sending import immutable
from piste.hub.errors import HubError, not_found
from piste.hub.http import json_response
from piste.hub.registry import queries, rules
from piste.hub.registry.choosing import choose, parse_requirement
from piste.hub.registry.sources import send_source
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services

_LOCKED: Final = "/f/{org}/{project}/{requirement}"
_PINNED: Final = "/f/pinned/{org}/{project}/{version}/{release}/source.tar.gz"


def routes(services: Services) -> list[Route]:
    """The routes of the dialect."""
    inputs = _Inputs(services)
    read, shape = Permission.PROJECT_SOURCE, format_error
    return [
        Route("GET", _LOCKED, read, Scope.PROJECT, inputs.locked, format_error=shape),
        Route("GET", _PINNED, read, Scope.RELEASE, inputs.pinned, format_error=shape),
    ]


class _Inputs:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def locked(self, exchange: Exchange) -> Response:
        """On to the address that never changes."""
        requirement = parse_requirement(exchange.parameters["requirement"])
        row = await choose(self._services.database, exchange.project, requirement)
        public_url = self._services.settings.public_url
        headers = {
            "Location": rules.pinned_url(public_url, exchange.project, row),
            "Link": rules.immutable_link(public_url, exchange.project, row),
            "Cache-Control": "no-cache",
        }
        return Response(status_code=307, headers=headers)

    async def pinned(self, exchange: Exchange) -> Response:
        """One release for as long as it exists, also once it was yanked: locks name it."""
        services, project = self._services, exchange.project
        version, release = exchange.parameters["version"], exchange.parameters["release"]
        row = await queries.release_by_id(services.database, project.id, release)
        if row is not None and row.version == version:
            caching = immutable(exchange.actor)
            return await send_source(services, exchange.request, project, row, caching=caching)
        if await queries.was_deleted(services.database, project.id, release, version):
            name = f"{project.organization_name}/{project.name}"
            raise HubError(
                "release-deleted",
                f"Release {version} of {name} was deleted.",
                hint="`nix flake update` locks one that there is, if there is any.",
            )
        raise not_found()


def format_error(error: HubError, request_id: str) -> Response:
    """One line of text: Nix shows the body of an error as it is."""
    text = error.message if error.hint is None else f"{error.message} {error.hint}"
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    response = json_response(" ".join(text.split()), error.status, headers)
    if error.status == 401:
        response.headers.append("WWW-Authenticate", 'Basic realm="piste"')
    return response
