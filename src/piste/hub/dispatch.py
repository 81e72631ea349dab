"""The way of every request: id, credential, route, resource, decision, handler, answer, log line.

Whatever goes wrong in a handler becomes one shape of error here, and tells the client nothing of the inside.
Log lines name the pattern of the route, never the target, the query string or a header: those can hold what
is private.
"""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from piste.hub import trail as trails
from piste.hub.access import queries
from piste.hub.access.authenticate import NOBODY
from piste.hub.access.records import Actor, Kind, Organization, Permission, Resource
from piste.hub.errors import HubError, not_found
from piste.hub.http import error_response
from piste.hub.http1.memory import KEPT_SECONDS, Keep
from piste.hub.patience import Patience
from piste.hub.requests import (
    BoundedBody,
    Message,
    Receive,
    check_declared_length,
    client_address,
    header,
    is_trusted,
    parse_networks,
    request_id,
)
from piste.hub.routing import NO_MATCH, BadTargetError, Exchange, Match, Route, Router, Scope
from piste.hub.services import Services
from piste.hub.trail import Trail
from piste.lib.clock import SECOND

Send = Callable[[Message], Awaitable[None]]
SEND_STALL_SECONDS: Final = 120.0
# A client that sends a body before it looks at the answer gets this much of it read, so that it sees the
# answer.
_DRAIN_BYTES: Final = 1 << 20
_DRAIN_SECONDS: Final = 2.0
_NARINFO: Final = ".narinfo"
_LOOK_UPS: Final = (_NARINFO, ".doi")
_NIX: Final = b"Nix/"  # in the User-Agent of every Nix: curl/8.14.1 Nix/2.34.8
_KEPT_ROUTES: Final = (_NARINFO, "/nar/{file}")
# Those whose rights are all in the database, so that nothing changes them without its version changing.
_KEPT_FOR: Final = frozenset({Kind.NOBODY, Kind.USER, Kind.DEVICE, Kind.CLOSURE})

_log = structlog.get_logger("piste.hub.requests")


class Dispatch:
    """The ASGI application for HTTP."""

    def __init__(self, services: Services, routes: Sequence[Route]) -> None:
        self.router = Router(routes)
        self._services = services
        self._trusted = parse_networks(services.settings.trusted_proxies)
        self._patience = Patience()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        identifier = request_id(headers)
        peer = (scope.get("client") or ("-",))[0]
        address = client_address(peer, headers, self._trusted)
        if self._services.settings.accel_redirect is not None:
            scope["piste.by_proxy"] = is_trusted(peer, self._trusted)
        trail = Trail(action="-", request_id=identifier, address=address)
        begun = trails.begin(trail)
        body = BoundedBody(receive, 0)
        status = 0
        try:
            response, body = await self._answer(scope, receive, trail)
            status = response.status_code
            sender = _Sender(send, identifier)
            if "piste.keep" in scope.get("extensions", {}):
                sender.keep = self._keep(trail, response)
            await _send_response(response, scope, body, sender)
        except ClientDisconnect:
            status = 499  # as nginx calls it: nobody is there to read an answer
        except asyncio.CancelledError:
            status = status or 499
            raise
        finally:
            trails.end(begun)
            _log.info(
                "request",
                request_id=identifier,
                method=scope["method"],
                route=trail.action.partition(" ")[2] or "-",
                status=status,
                milliseconds=round((time.perf_counter() - started) * 1000, 2),
                token=trail.token,
                ref=trail.ref,
                client=address,
            )

    async def _answer(
        self, scope: dict[str, Any], receive: Receive, trail: Trail
    ) -> tuple[Response, BoundedBody]:
        """The answer, whatever happens; only a client that has gone gets none."""
        asked = _Asked(BoundedBody(receive, _DRAIN_BYTES))
        try:
            match = _match(self.router, scope["raw_path"])
            asked.route = match.route(scope["method"])
            trail.action = f"{scope['method']} {asked.route.pattern if asked.route is not None else '-'}"
            if not asked.is_look_up:
                return await self._respond(scope, receive, match, asked, trail), asked.body
            return await self._patience.run(
                lambda: self._respond(scope, receive, match, asked, trail)
            ), asked.body
        except ClientDisconnect:
            raise
        except Exception as error:
            problem = self._counted(_as_problem(error, trail), asked, trail)
        self._record(trail, asked.actor, problem)
        if asked.is_look_up:
            problem = _as_nix_goes_on(problem, header(scope["headers"], b"user-agent") or b"")
        trail.ref = problem.ref
        shape = (asked.route.format_error if asked.route is not None else None) or error_response
        return shape(problem, trail.request_id), asked.body

    async def _respond(
        self, scope: dict[str, Any], receive: Receive, match: Match, asked: "_Asked", trail: Trail
    ) -> Response:
        route = asked.route
        asked.actor = actor = await self._authenticate(scope, route, trail)
        if route is None:
            raise _no_route(match, scope["method"])
        self._services.limits.check(route.permission, actor, trail.address)
        check_declared_length(scope["headers"], route.body_limit)
        asked.body = BoundedBody(receive, route.body_limit)
        parameters = match.parameters(route)
        resource = await self._resource(route, parameters)
        permission = _permission(route, resource)
        trail.to(permission, resource)
        if route.scope is not Scope.NAMED:
            _decide(self._services, actor, permission, resource, parameters)
        request = Request(scope, asked.body)
        return await route.handler(
            Exchange(request, actor, parameters, match.tail, resource, trail.request_id)
        )

    async def _authenticate(self, scope: dict[str, Any], route: Route | None, trail: Trail) -> Actor:
        """Who asks. Wrong credentials are counted for their address; a good one is never held up by them, and
        one that was good is told so each time: no guess, and its holder has to know to ask for another."""
        if route is not None and route.own_credential:
            return NOBODY
        permission = route.permission if route is not None else None
        try:
            actor = await self._services.authenticator.authenticate(
                scope["headers"],
                address=trail.address,
                remember=permission is Permission.CACHE_READ,
                late=permission is Permission.UPLOAD_FINISH,
            )
        except HubError as error:
            if error.actor is not None:
                trail.by(error.actor)
            if error.status in (401, 403) and error.ref != "credential-expired":
                self._services.limits.count_failure(trail.address)
            raise
        trail.by(actor)
        return actor

    def _keep(self, trail: Trail, response: Response) -> Keep | None:
        """Whether an answer may be given again to the same request, and until when: what a client asks for
        by the thousand, narinfos and whole NARs."""
        if not trail.action.startswith("GET ") or not trail.action.endswith(_KEPT_ROUTES):
            return None
        if response.status_code != 200 or trail.kind not in _KEPT_FOR:
            return None
        left = KEPT_SECONDS
        if trail.expires_at is not None:
            left = min(left, (trail.expires_at - self._services.clock()) / SECOND)
        route = trail.action.partition(" ")[2]
        return Keep(time.monotonic() + left, route, trail.token, trail.address)

    def _counted(self, problem: HubError, asked: "_Asked", trail: Trail) -> HubError:
        """A wrong credential that a handler reads itself counts like any other. What is answered."""
        if problem.status != 401 or asked.route is None or not asked.route.own_credential:
            return problem
        try:
            self._services.limits.count_failure(trail.address)
        except HubError as too_many:
            return too_many
        return problem

    def _record(self, trail: Trail, actor: Actor | None, problem: HubError) -> None:
        """Refused uses go to the audit log, also those that are answered like what is missing."""
        reason = problem.reason
        if reason is None and (problem.status in (401, 403) or problem.ref == "path-conflict"):
            reason = problem.ref
        if reason is not None:
            self._services.audit.refused(trail, problem.actor or actor or NOBODY, reason)

    async def _resource(self, route: Route, parameters: dict[str, str]) -> Resource:
        database = self._services.database
        found: Resource
        match route.scope:
            case Scope.HUB | Scope.NAMED:
                return None
            case Scope.ORGANIZATION:
                found = await queries.organization_by_name(database, parameters["org"])
            case Scope.PROJECT:
                found = await queries.project_by_name(database, parameters["org"], parameters["project"])
            case Scope.PROJECT_TO_BE:
                # Both each time: else it would take longer for a project that is not there.
                owner = await queries.organization_by_name(database, parameters["org"])
                found = await queries.project_by_name(database, parameters["org"], parameters["project"])
                found = found or owner
            case Scope.RELEASE:
                found = await queries.project_of_release(
                    database, parameters["org"], parameters["project"], parameters["release"]
                )
        if found is None:
            raise not_found()
        return found


@dataclass
class _Asked:
    """What is known of a request so far."""

    body: BoundedBody
    route: Route | None = None
    actor: Actor | None = None

    @property
    def is_look_up(self) -> bool:
        """Whether Nix asks for a narinfo or a build trace here: the answer decides whether it goes on."""
        route = self.route
        return route is not None and route.method == "GET" and route.pattern.endswith(_LOOK_UPS)


class _Sender:
    """Adds what every answer has, and gives up on a client that takes nothing."""

    def __init__(self, send: Send, identifier: str) -> None:
        self._send = send
        self._identifier = identifier.encode()
        self.keep: Keep | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self._identifier),
                (b"x-content-type-options", b"nosniff"),
            ]
            if self.keep is not None:
                message["piste.keep"] = self.keep
        elif message["type"] == "http.response.zerocopysend":
            await self._send(message)  # takes as long as something is taken; the server watches over that
            return
        async with asyncio.timeout(SEND_STALL_SECONDS):
            await self._send(message)


async def _send_response(response: Response, scope: dict[str, Any], body: BoundedBody, send: _Sender) -> None:
    if response.status_code >= 400 and not body.finished:
        await _drain(scope, body)
    body.answered()
    if scope["method"] != "HEAD":
        await response(scope, body, send)
        return
    if isinstance(response, StreamingResponse) and (close := getattr(response.body_iterator, "aclose", None)):
        await close()
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": b""})


async def _drain(scope: dict[str, Any], body: BoundedBody) -> None:
    """Read what is on its way, within bounds; a client that waits for 100-continue has sent nothing."""
    if header(scope["headers"], b"expect") is not None:
        return
    length = header(scope["headers"], b"content-length") or b""
    if length == b"0" or (not length and header(scope["headers"], b"transfer-encoding") is None):
        return
    read = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while not body.finished and read < _DRAIN_BYTES:
                message = await body()
                if message["type"] != "http.request":
                    return
                read += len(message.get("body", b""))
    except (TimeoutError, HubError):
        return


def _match(router: Router, raw_path: bytes) -> Match:
    try:
        return router.match(raw_path)
    except BadTargetError:
        return NO_MATCH


def _no_route(match: Match, method: str) -> HubError:
    if not match.routes:
        return not_found()
    return HubError(
        "method-not-allowed",
        f"{method} is not possible here.",
        hint=f"Possible: {', '.join(sorted(match.routes))}.",
    )


def _permission(route: Route, resource: Resource) -> Permission:
    """What the caller must be allowed: to make a project, where there is none yet."""
    to_be = route.scope is Scope.PROJECT_TO_BE and isinstance(resource, Organization)
    return Permission.PROJECT_CREATE if to_be else route.permission


def _decide(
    services: Services, actor: Actor, permission: Permission, resource: Resource, parameters: dict[str, str]
) -> None:
    services.guard.require(actor, permission, resource)
    # Where the project is to be made; before anything is read, so that one that is there answers the same.
    if isinstance(resource, Organization) and "project" in parameters:
        services.guard.check_create(actor, resource, parameters["project"])
    # A credential that is bound to one output is held to it before any handler looks for a release.
    if permission is Permission.OUTPUT_RESOLVE and actor.binding is not None:
        services.guard.check_resolve(
            actor, resource, parameters.get("requirement", ""), parameters.get("attribute", "")
        )


def _as_nix_goes_on(problem: HubError, client: bytes) -> HubError:
    """Only what is missing (404) or forbidden (403) sends every Nix on to the next cache."""
    if problem.status >= 500 or problem.status in (408, 429):
        return not_found()
    # Nix 2.35 stops at 401. It sends its credential unasked, so 403 tells it as much.
    if problem.status == 401 and _NIX in client:
        return HubError("forbidden", problem.message, hint=problem.hint)
    return problem


def _as_problem(error: Exception, trail: Trail) -> HubError:
    if isinstance(error, HubError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _log.error("storage-full", request_id=trail.request_id, route=trail.action)
        return HubError(
            "storage-full",
            "The hub's storage is full. Nothing of this request was kept half done.",
            hint="Tell whoever runs the hub; `piste hub gc` frees what nothing refers to.",
        )
    _log.error("internal-error", request_id=trail.request_id, route=trail.action, exc_info=error)
    return HubError(
        "internal-error",
        "Something went wrong in the hub.",
        hint="Try again; if it stays, tell whoever runs the hub the request id.",
    )
