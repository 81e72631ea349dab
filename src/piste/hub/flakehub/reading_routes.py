"""What `fh` asks: listings, versions, releases, outputs, and who one is. Each is an operation that Piste's
own API has too, told in other words.

`fh list` ignores the status and looks for an array; what shows one thing passes for any 2xx, but an output
needs exactly 200.
"""

from starlette.responses import Response

from piste.hub.access.records import Kind, Permission
from piste.hub.access.status import status_of
from piste.hub.errors import HubError
from piste.hub.flakehub import shapes
from piste.hub.flakehub.errors import format_error
from piste.hub.http import json_response
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services


def routes(services: Services) -> list[Route]:
    lists = _Listings(services)
    return [
        Route(
            "GET",
            "/cli/status",
            Permission.STATUS,
            Scope.HUB,
            lists.status,
            format_error=format_error,
        ),
    ]


class _Listings:
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
