"""Every route of the dialect, from what reads and what publishes."""

from piste.hub.flakehub import device_routes, pushing_routes, reading_routes
from piste.hub.routing import Route
from piste.hub.services import Services


def routes(services: Services) -> list[Route]:
    return [
        *reading_routes.routes(services),
        *device_routes.routes(services),
        *pushing_routes.routes(services),
    ]
