"""Every credential against every route on every kind of resource, compared with the table in `matrix.py`.

Credentials, resources and decisions are real; what reads is answered in full. Only what would change
something is stopped where its handler would begin, so that one cell leaves the next as it was.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from piste.hub.access.records import Kind
from piste.hub.access.token_text import make_token
from piste.hub.app import build, routes
from piste.hub.dispatch import Dispatch
from piste.hub.errors import not_found
from piste.hub.routing import Exchange, Scope
from piste.hub.services import Services
from piste.hub.settings import RateLimits, make_settings
from tests.hub import matrix
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme
from tests.running.closures import ATTRIBUTE, Member, member

VISIBILITIES = ("public", "unlisted", "private")
REACHED = 299
LOG = "00000000000000000000000000000000-app.drv"
NOT_FOUND = not_found().message
LETTERS = {401: "u", 403: "f", 404: "m"}


@dataclass(frozen=True)
class World:
    """What there is, and who asks."""

    hub: Hub
    resources: list[dict[str, str]]  # segments by name: three of the own organization, three of the foreign
    tokens: dict[str, str | None]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        hub.start()
        own, foreign, third = Acme(hub), Acme(hub), Acme(hub)
        resources = [make_project(acme, visibility) for acme in (own, foreign) for visibility in VISIBILITIES]
        yield World(hub, resources, make_tokens(hub, own, foreign, third))
    finally:
        hub.close()


def make_project(acme: Acme, visibility: str) -> dict[str, str]:
    """A project with a release, a log and an open publication."""
    acme.add_project(visibility, visibility)
    acme.project = visibility
    path: Member = member(
        "app", (acme.organization, visibility), f"{acme.organization} {visibility}".encode()
    )
    published = acme.publish("1.0.0", [path], project=visibility)
    assert acme.ask("PUT", f"{acme.cache}/log/{LOG}", body=b"built\n").status == 201
    return {
        "org": acme.organization,
        "project": visibility,
        "name": f"{acme.organization}+{visibility}",
        "requirement": "1",
        "version": "1.0.0",
        "release": published["release_id"],
        "attribute": ATTRIBUTE,
        "hash": path.path.hash_part,
        "file": f"{path.nar_hash.base32}.nar.zst",
        "digest": acme.resolve("1").json()["manifest"].removeprefix("sha256:"),
        "drv": LOG,
        "publication": acme.open("2.0.0", visibility).opened["id"],
        "person": "ada",
        "token": "018f0000-0000-7000-8000-000000000001",
        "rule": "018f0000-0000-7000-8000-000000000002",
        "key": "acme-2",
        "label": "editor",
        "owner": acme.organization,
    }


def make_tokens(hub: Hub, own: Acme, foreign: Acme, third: Acme) -> dict[str, str | None]:
    tokens: dict[str, str | None] = {
        "nobody": None,
        "unknown": make_token(Kind.USER),
        "expired": hub.make_token(own.organization, kind="device", expires_in=1),
        "revoked": hub.make_token(own.organization, kind="device"),
        "stranger": third.member,
        "member": own.member,
        "admin": hub.make_member(own.organization, "ada", "admin"),
        "owner": hub.make_member(own.organization, "olga", "owner"),
        "superuser": hub.admin,
        "resolve-only": hub.make_token(
            own.organization, kind="resolve-only", project="private", requirement="1", attribute=ATTRIBUTE
        ),
    }
    place = f"/api/v1/organizations/{own.organization}/tokens"
    revoked = max(each["id"] for each in hub.as_admin("GET", place) if each["kind"] == "device")
    hub.as_admin("DELETE", f"{place}/{revoked}")
    tokens["device"] = hub.make_token(own.organization, kind="device")
    hub.make_member(own.organization, "both", "owner")
    tokens["confined"] = hub.make_member(foreign.organization, "both", "owner")
    own.project = "private"
    tokens["closure"] = own.resolve("1", token=tokens["resolve-only"]).json()["token"]
    wait_for(lambda: hub.request("GET", "/api/v1/status", token=tokens["expired"]).status == 401)
    return tokens


def test_every_route_has_its_row_and_every_row_its_route(tmp_path: Path) -> None:
    async def known() -> set[str]:
        async with AsyncExitStack() as stack:
            services = await build(make_settings(tmp_path / "data", listen="127.0.0.1:1"), stack)
            return {f"{route.method} {route.pattern}" for route in routes(services)}

    assert asyncio.run(known()) == set(matrix.ROUTES)
    for table in (matrix.PROJECT, matrix.ORGANIZATION, matrix.HUB):
        assert all(len(row.split()) == len(matrix.ACTORS) for row in table.values())


def test_not_one_cell_differs(world: World) -> None:
    settings = make_settings(
        world.hub.data, listen="127.0.0.1:1", rate_limits=RateLimits(10**9, 10**9, 10**9)
    )

    async def ask_all() -> list[str]:
        async with AsyncExitStack() as stack:
            services = await build(settings, stack)
            dispatch = Dispatch(services, [_stopped(route) for route in routes(services)])
            cells = [(route, actor) for route in matrix.ROUTES for actor in matrix.ACTORS]
            return [
                f"{route} by {actor}: {found} instead of {wanted}"
                for route, actor in cells
                if (found := await _cell(services, dispatch, world, route, actor))
                != (wanted := matrix.expected(matrix.ROUTES[route], actor))
            ]

    assert asyncio.run(ask_all()) == []


async def _reached(exchange: Exchange) -> Response:
    return Response(status_code=REACHED)


def _stopped(route: Any) -> Any:
    reads = route.method == "GET" or route.scope is Scope.NAMED
    return route if reads else replace(route, handler=_reached)


async def _cell(services: Services, dispatch: Dispatch, world: World, route: str, actor: str) -> str:
    method, _, pattern = route.partition(" ")
    group = matrix.ROUTES[route]
    places = world.resources
    if group in matrix.ORGANIZATION:
        places = [world.resources[0], world.resources[3]]
    elif group in matrix.HUB:
        places = world.resources[:1]
    await services.revocations.refresh()
    header, body = matrix.NAMED.get(route, ("", ""))
    return "".join(
        [
            await _ask(
                dispatch,
                method,
                pattern.format(**place),
                world.tokens[actor],
                header.replace("NAME", place["name"]),
                body.replace("NAME", place["name"]),
            )
            for place in places
        ]
    )


async def _ask(
    dispatch: Dispatch, method: str, path: str, token: str | None, header: str, content: str
) -> str:
    headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
    if header:
        name, _, value = header.partition(": ")
        headers.append((name.encode(), value.encode()))
    sent: list[Any] = []
    body_sent = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if body_sent.is_set():
            await asyncio.Event().wait()  # as a client that stays
        body_sent.set()
        return {"type": "http.request", "body": content.encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"places=0",
    }
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "extensions": {}}
    await dispatch(scope, receive, send)
    status = sent[0]["status"]
    if status in LETTERS:
        body = json.loads(b"".join(message.get("body", b"") for message in sent[1:]))
        if isinstance(body, str):  # of a dialect, whose errors have no reference
            return LETTERS[status] if status != 404 or body.startswith(NOT_FOUND) else f"({body})"
        ref = body["error"] if isinstance(body["error"], str) else body["error"]["ref"]
        return LETTERS[status] if status != 404 or ref in ("not-found", "NotFound") else f"({ref})"
    # 422: a route that was not stopped got as far as the NAR, which is none.
    return "." if status in (200, 307, REACHED) or (header and status == 422) else f"({status})"
