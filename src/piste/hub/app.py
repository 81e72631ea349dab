"""The composition root: settings become services, services become routes, routes become the application.

The only place that knows all stages.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog
from starlette.responses import PlainTextResponse, Response

from piste.hub.access import limit_queries, queries
from piste.hub.access import routes as access_routes
from piste.hub.access.closure_token import LIFETIME_SECONDS
from piste.hub.access.limits import WINDOW
from piste.hub.access.records import Permission
from piste.hub.attic import routes as attic_routes
from piste.hub.audit import routes as audit_routes
from piste.hub.cache import routes as cache_routes
from piste.hub.db.open import open_database
from piste.hub.dispatch import Dispatch
from piste.hub.flakehub import routes as flakehub_routes
from piste.hub.identities import queries as identity_queries
from piste.hub.identities import routes as identity_routes
from piste.hub.inputs import routes as inputs_routes
from piste.hub.organizations import routes as organization_routes
from piste.hub.plan import making
from piste.hub.plan import routes as plan_routes
from piste.hub.publish import routes as publish_routes
from piste.hub.publish.opening import expire
from piste.hub.pushes import routes as push_routes
from piste.hub.registry import routes as registry_routes
from piste.hub.requests import Message, Receive
from piste.hub.resolve import routes as resolve_routes
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services, make_services
from piste.hub.settings import Settings
from piste.hub.storage.open import open_objects
from piste.lib.clock import HOUR, SECOND, Clock, wall_clock

HOUSEKEEPING_SECONDS: Final = 60.0

# Adapters for other clients. Each can be taken out: its folder, its import and its line here.
DIALECTS: Final[tuple[Callable[[Services], list[Route]], ...]] = (
    flakehub_routes.routes,
    attic_routes.routes,
    inputs_routes.routes,
)

_log = structlog.get_logger("piste.hub")


async def build(settings: Settings, stack: AsyncExitStack, clock: Clock = wall_clock) -> Services:
    """The services of the settings; the stack closes them."""
    database = await open_database(settings, clock)
    stack.push_async_callback(database.close)
    objects = open_objects(settings)
    stack.callback(objects.close)
    services = make_services(database, objects, clock, settings)
    stack.callback(services.workers.close)
    return services


def routes(services: Services) -> list[Route]:
    """All routes of all stages."""
    return [
        Route("GET", "/healthz", Permission.PUBLIC, Scope.HUB, _health(services)),
        *access_routes.routes(services),
        *audit_routes.routes(services),
        *organization_routes.routes(services),
        *identity_routes.routes(services),
        *cache_routes.routes(services),
        *publish_routes.routes(services),
        *push_routes.routes(services),
        *registry_routes.routes(services),
        *resolve_routes.routes(services),
        *plan_routes.routes(services),
        *(route for dialect in DIALECTS for route in dialect(services)),
    ]


class Application:
    """The ASGI application: HTTP by `Dispatch`, and what runs beside it from start to stop."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._dispatch = Dispatch(services, routes(services))

    async def __call__(
        self, scope: dict[str, Any], receive: Receive, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        match scope["type"]:
            case "http":
                await self._dispatch(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1002})

    async def _live(self, receive: Receive, send: Callable[[Message], Awaitable[None]]) -> None:
        await receive()
        tasks = [
            asyncio.create_task(self.services.revocations.watch()),
            asyncio.create_task(self.services.audit.watch()),
            asyncio.create_task(self.services.limits.watch()),
            asyncio.create_task(
                self.services.answers.watch(self.services.database.version, self.services.revocations.refresh)
            ),
            asyncio.create_task(making.run(self.services)),
            asyncio.create_task(making.watch(self.services)),
            *(asyncio.create_task(_repeat(work)) for work in _housekeeping(self.services)),
        ]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.services.answers.tell()
        for work in (self.services.authenticator.record_use, self.services.audit.flush):
            try:
                await work()
            except Exception as error:
                _log.warning("housekeeping-failed", error=type(error).__name__)
        await send({"type": "lifespan.shutdown.complete"})


def _housekeeping(services: Services) -> Sequence[Callable[[], Awaitable[None]]]:
    async def forget_old() -> None:
        # Twice as long as a token lives, so that no clock that differs brings one back.
        before = services.clock() - 2 * LIFETIME_SECONDS * SECOND
        async with services.database.transaction() as connection:
            await queries.forget_revocations(connection, before)
            await limit_queries.forget(connection, services.clock() - 2 * WINDOW)

    async def forget_identities() -> None:
        async with services.database.transaction() as connection:
            # An hour later than it has to be, since the clocks of processes differ.
            await identity_queries.forget_uses(connection, services.clock() - HOUR)

    async def expire_publications() -> None:
        await expire(services)

    return [services.authenticator.record_use, forget_old, forget_identities, expire_publications]


async def _repeat(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING_SECONDS)
        try:
            await work()
        except Exception as error:
            # Housekeeping must not end because a database was away for a moment.
            _log.warning("housekeeping-failed", error=type(error).__name__)


def _health(services: Services) -> Callable[[Exchange], Awaitable[Response]]:
    async def health(exchange: Exchange) -> Response:
        await services.database.one("SELECT 1 AS one")
        return PlainTextResponse("ok\n")

    return health
