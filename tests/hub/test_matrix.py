"""Every credential against every route on every kind of resource, compared with the table in `matrix.py`.

Credentials, resources and decisions are real; what reads is answered in full. Only what would change
something is stopped where its handler would begin, so that one cell leaves the next as it was.
"""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from piste.hub.access.queries import project_by_name
from piste.hub.access.records import Actor, Kind
from piste.hub.access.token_text import make_token
from piste.hub.app import build, routes
from piste.hub.dispatch import Dispatch
from piste.hub.errors import not_found
from piste.hub.routing import Exchange, Scope
from piste.hub.services import Services
from piste.hub.settings import RateLimits, make_settings
from piste.lib.clock import HOUR, wall_clock
from tests.hub import matrix
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme
from tests.identities.openid import Certificate
from tests.running.closures import ATTRIBUTE, Member, member, new_path, tree_nar
from tests.running.issuer import Issuer

VISIBILITIES = ("public", "unlisted", "private")
VERSION, STAGE = "2.0.0", "run"
REACHED = 299
DEBUG_FOLDER = "lib/debug/.build-id"
NOT_FOUND = not_found().message
LETTERS = {401: "u", 403: "f", 404: "m"}


@dataclass(frozen=True)
class World:
    """What there is, and who asks. Credentials of one column have to be answered alike."""

    hub: Hub
    resources: list[dict[str, str]]  # segments by name: three of the own organization, three of the foreign
    credentials: dict[str, list[str | None]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[World]:
    hub = Hub(tmp_path_factory.mktemp("hub"), options=("--allow-egress", "localhost"))
    issuer = Issuer(certificate)
    try:
        hub.start()
        own, foreign, third = Acme(hub), Acme(hub), Acme(hub)
        resources = [make_project(acme, visibility) for acme in (own, foreign) for visibility in VISIBILITIES]
        for place in resources:
            wait_for_deltas(place, hub)
        credentials = make_credentials(hub, own, foreign, third)
        credentials |= make_identities(own, foreign, issuer)
        runs = [issuer.mint(sub="run of 1", repository_id="1") for _ in range(2)]
        ended = asyncio.run(make_ended(own, resources[2], runs))
        credentials["expired"] += ended["expired"]
        credentials["revoked"] = ended["revoked"]
        yield World(hub, resources, credentials)
    finally:
        hub.close()
        issuer.close()


def make_project(acme: Acme, visibility: str) -> dict[str, str]:
    """A project with a release, the delta to it from another, a log and an open publication."""
    acme.add_project(visibility, visibility)
    acme.project = visibility
    text = random.Random(f"{acme.organization} {visibility}").randbytes(2000)
    acme.publish("1.0.0", [member("app", ("old", acme.organization, visibility), text)], project=visibility)
    path: Member = member("app", (acme.organization, visibility), text + b"!")
    published = acme.publish("1.0.1", [path], project=visibility)
    build_id = sha256(path.nar).hexdigest()[:40]
    debug = Member(
        new_path("debug", (acme.organization, visibility)),
        tree_nar({f"{DEBUG_FOLDER}/{build_id[:2]}/{build_id[2:]}.debug": build_id.encode()}),
        (),
    )
    acme.publish("0.9.0", [debug], project=visibility, attribute="packages.debug")
    about_builds(acme, path)
    return {
        "org": acme.organization,
        "project": visibility,
        "name": f"{acme.organization}+{visibility}",
        "requirement": "1",
        "version": "1.0.1",
        "release": published["release_id"],
        "attribute": ATTRIBUTE,
        "hash": path.path.hash_part,
        "file": f"{path.nar_hash.base32}.nar.zst",
        "digest": acme.resolve("1").json()["manifest"].removeprefix("sha256:"),
        "drv": f"{path.path.hash_part}-app.drv",
        "output": "out",
        "entry": f"sha256:{sha256(path.nar).hexdigest()}!out",
        "build_id": build_id,
        "base": acme.resolve("=1.0.0").json()["manifest"].removeprefix("sha256:"),
        "number": "0",
        "publication": acme.open(VERSION, visibility, stage=STAGE).opened["id"],
        "upload": "0123456789abcdef",
        "part": "0",
        "push": "018f0000-0000-7000-8000-000000000003",
        "person": "ada",
        "token": "018f0000-0000-7000-8000-000000000001",
        "rule": "018f0000-0000-7000-8000-000000000002",
        "key": "acme-2",
        "length": "1",
        "tail*": "A" * 43 + "=",
        "address": "x",
        "label": "editor",
        "owner": acme.organization,
    }


def create(acme: Acme, kind: str, **fields: Any) -> tuple[str, str]:
    """A token of the organization by the admin, its id first; resolve-only ones are for one output of its
    private project."""
    asked: dict[str, Any] = {"kind": kind, "description": "a test", **fields}
    if kind == "resolve-only":
        asked |= {"project": "private", "requirement": "1", "attribute": ATTRIBUTE}
    place = f"/api/v1/organizations/{acme.organization}/tokens"
    made = acme.hub.as_admin("POST", place, json=asked)
    return made["id"], made["token"]


def about_builds(acme: Acme, path: Member) -> None:
    """A log and build traces of a path."""
    drv, entry = f"{path.path.hash_part}-app.drv", f"sha256:{sha256(path.nar).hexdigest()}!out"
    for place, body in (
        (f"log/{drv}", b"built\n"),
        (f"realisations/{entry}.doi", json.dumps({"id": entry, "outPath": path.path.base_name}).encode()),
        (f"build-trace-v2/{drv}/out.doi", json.dumps({"outPath": path.path.base_name}).encode()),
    ):
        assert acme.ask("PUT", f"{acme.cache}/{place}", body=body).status == 201


def wait_for_deltas(place: dict[str, str], hub: Hub) -> None:
    """The hub makes them by itself."""
    path = "/cache/{org}/{project}/manifest/{digest}/deltas/{base}/{number}".format(**place)
    wait_for(lambda: hub.request("GET", path, token=hub.admin).status == 200)


def make_credentials(hub: Hub, own: Acme, foreign: Acme, third: Acme) -> dict[str, list[str | None]]:
    """All but those that a CI has to do with, and those that have ended."""
    own.project = foreign.project = "private"
    hub.make_member(own.organization, "both", "owner")
    resolve_only = create(own, "resolve-only")[1]
    closure: str = own.resolve("1", token=resolve_only).json()["token"]
    kinds = (Kind.USER, Kind.DEVICE, Kind.RESOLVE_ONLY, Kind.SESSION)
    return {
        "nobody": [None],
        "unknown": [*map(make_token, kinds), closure[:-4] + ("AAAA" if closure[-4:] != "AAAA" else "BAAA")],
        "stranger": [third.member],
        "member": [own.member],
        "admin": [hub.make_member(own.organization, "ada", "admin")],
        "owner": [hub.make_member(own.organization, "olga", "owner")],
        "confined": [hub.make_member(foreign.organization, "both", "owner")],
        "superuser": [hub.admin],
        "device": [create(own, "device")[1]],
        "resolve-only": [resolve_only],
        "closure": [closure],
    }


def make_identities(own: Acme, foreign: Acme, issuer: Issuer) -> dict[str, list[str | None]]:
    """Runs of a CI, whose rules bind a number, and the session that one of them opened."""

    def mint(number: int, **more: Any) -> str:
        return issuer.mint(sub=f"run of {number}", repository_id=str(number), **more)

    def trust(acme: Acme, number: int, project: str) -> str:
        asked = {"project": project, "issuer": issuer.issuer, "claims": {"repository_id": [str(number)]}}
        place = f"/api/v1/organizations/{acme.organization}/trust"
        return f"{place}/{acme.hub.as_admin('POST', place, json=asked)['id']}"

    trust(own, 1, "private")
    trust(foreign, 2, "private")
    trust(own, 3, "not-there")
    removed = trust(own, 5, "private")
    session = exchange(own, mint(1))[1]
    made: dict[str, list[str | None]] = {
        "session": [session],
        "identity": [mint(1)],
        "elsewhere": [mint(2)],
        "pending": [mint(3)],
        "untrusted": [mint(4), mint(1, aud="api.flakehub.com"), mint(5)],
        "late": [mint(1, age=400)],
        "expired": [mint(1, age=7200)],
    }
    for acme, token in ((own, session), (own, made["identity"][0]), (foreign, made["elsewhere"][0])):
        assert acme.open(VERSION, stage=STAGE, token=token).opened["id"]
    own.hub.as_admin("DELETE", removed)
    return made


def exchange(acme: Acme, identity: str) -> tuple[str, str]:
    """A session for the publication that is open, its id first."""
    asked = {"organization": acme.organization, "project": "private", "version": VERSION, "stage": STAGE}
    answer = acme.hub.request("POST", "/api/v1/identities/session", token=identity, json=asked)
    assert answer.status == 201, answer.body
    return answer.json()["id"], answer.json()["token"]


async def make_ended(
    own: Acme, place: dict[str, str], identities: Sequence[str]
) -> dict[str, list[str | None]]:
    """One of each kind that has expired, and one of each that was revoked."""
    own.hub.make_member(own.organization, "eve")
    organization = f"/api/v1/organizations/{own.organization}"
    ended: dict[str, list[str | None]] = {}
    async with AsyncExitStack() as stack:
        settings = make_settings(own.hub.data, listen="127.0.0.1:1")
        services = await build(settings, stack, lambda: wall_clock() - 2 * HOUR)
        project = await project_by_name(services.database, own.organization, "private")
        assert project is not None
        for column, identity in zip(("expired", "revoked"), identities, strict=True):
            made = [create(own, "user", person="eve"), create(own, "device"), create(own, "resolve-only")]
            made.append(exchange(own, identity))
            ended[column] = [token for _, token in made]
            if column == "revoked":
                ended[column].append(own.resolve("1", token=made[2][1]).json()["token"])
                for identifier, _ in made:
                    own.hub.as_admin("DELETE", f"{organization}/tokens/{identifier}")
                continue
            async with services.database.transaction() as connection:
                await connection.many(
                    "UPDATE token SET expires_at = created_at + 1 WHERE id = $1",
                    [(identifier,) for identifier, _ in made],
                )
            manifest = f"sha256:{place['digest']}"
            ended[column].append((await services.closures.issue(Actor(), project.id, manifest))[0])
    return ended


def test_every_route_has_its_row_and_every_row_its_route(tmp_path: Path) -> None:
    async def known() -> set[str]:
        async with AsyncExitStack() as stack:
            services = await build(make_settings(tmp_path / "data", listen="127.0.0.1:1"), stack)
            return {f"{route.method} {route.pattern}" for route in routes(services)}

    assert asyncio.run(known()) == set(matrix.ROUTES)
    for table in (matrix.PROJECT, matrix.ORGANIZATION, matrix.HUB):
        assert all(len(row.split()) == len(matrix.ACTORS) for row in table.values())


def test_every_column_has_its_credentials(world: World) -> None:
    assert set(world.credentials) == set(matrix.ACTORS)
    assert {len(world.credentials[column]) for column in ("expired", "revoked")} == {6, 5}
    assert all(world.credentials.values())


def test_not_one_cell_differs(world: World) -> None:
    settings = make_settings(
        world.hub.data,
        listen="127.0.0.1:1",
        public_url="http://127.0.0.1:1",
        allow_egress=("localhost",),
        rate_limits=RateLimits(10**9, 10**9, 10**9),
    )

    async def ask_all() -> list[str]:
        async with AsyncExitStack() as stack:
            services = await build(settings, stack)
            dispatch = Dispatch(services, [_stopped(route) for route in routes(services)])
            return [
                f"{route} by {actor} ({number}): {found} instead of {wanted}"
                for route in matrix.ROUTES
                for actor in matrix.ACTORS
                for number, credential in enumerate(world.credentials[actor], 1)
                if (found := await _cell(services, dispatch, world, route, credential))
                != (wanted := matrix.expected(matrix.ROUTES[route], actor))
            ]

    assert asyncio.run(ask_all()) == []


async def _reached(exchange: Exchange) -> Response:
    return Response(status_code=REACHED)


def _stopped(route: Any) -> Any:
    reads = route.method == "GET" or route.scope is Scope.NAMED
    return route if reads else replace(route, handler=_reached)


async def _cell(
    services: Services, dispatch: Dispatch, world: World, route: str, credential: str | None
) -> str:
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
                credential,
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
