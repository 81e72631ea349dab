"""Enumeration by error or timing class: what one may not see is to be told from what is not there."""

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from piste.hub.app import build, routes
from piste.hub.db.base import Value
from piste.hub.dispatch import Dispatch
from piste.hub.routing import Route, Scope
from piste.hub.services import Services
from piste.hub.settings import RateLimits, make_settings
from piste.nix.hashes import sha256_of
from tests.hub import matrix
from tests.running.closures import ATTRIBUTE, Member, new_path, publish, tree_nar
from tests.running.tenants import Tenant

SEGMENTS = {
    "requirement": "1",
    "version": "1.0.0",
    "attribute": ATTRIBUTE,
    "drv": "00000000000000000000000000000000-x.drv",
    "digest": "0" * 64,
    "person": "ada",
    "key": "acme-1",
}
BUILD_ID = "ab" + "c" * 38
NOTHING = "018f0000-0000-7000-8000-000000000001"  # stands for all that is named by an id
CHANGING = {b"x-request-id", b"date"}


@dataclass(frozen=True)
class Told:
    """Everything that an answer tells, and what the hub asked its database for it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: object
    statements: list[str]


class Watch:
    """Writes down which statements a hub's database is given."""

    def __init__(self, services: Services) -> None:
        self.statements: list[str] = []
        for name in ("all", "one", "scan"):
            setattr(services.database, name, self._watched(getattr(services.database, name)))

    def _watched(self, read: Any) -> Any:
        async def watched(sql: str, *values: Value) -> Any:
            self.statements.append(sql)
            return await read(sql, *values)

        return watched


@pytest.fixture(scope="module")
def secret(acme: Tenant) -> Member:
    debug = f"lib/debug/.build-id/{BUILD_ID[:2]}/{BUILD_ID[2:]}.debug"
    path = Member(new_path("plans", "of acme"), tree_nar({debug: b"of acme"}), ())
    with acme.client() as client:
        publish(client, acme.organization, acme.project, "1.0.0", [path])
    return path


def pairs(found: Sequence[Route], secret: Member) -> list[tuple[str, str, str]]:
    """Method, an address of what is there and may not be seen, and the same of what is not there."""
    absent = new_path("plans", "of nobody").hash_part
    there = {"org": "acme", "project": "vault", "hash": secret.path.hash_part, "name": "acme+vault"}
    there["file"] = f"{secret.nar_hash.base32}.nar.zst"
    missing = {"org": "nobody", "project": "nothing", "hash": absent, "name": "nobody+nothing"}
    there["build_id"], missing["build_id"] = BUILD_ID, "0" * 40
    missing["file"] = f"{sha256_of(b'of nobody').base32}.nar.zst"
    made = []
    for route in found:
        of_paths = any(word in route.pattern for word in ("{hash}", "{file}", "{build_id}"))
        if (route.scope is Scope.HUB and not of_paths) or f"{route.method} {route.pattern}" in matrix.NAMED:
            continue
        first, second = (
            route.pattern.format_map(defaultdict(lambda: NOTHING, SEGMENTS | said))
            for said in (there, missing)
        )
        made.append((route.method, first, second))
    return made


async def ask(dispatch: Dispatch, method: str, address: str, token: str | None, watch: Watch) -> Told:
    sent: list[Any] = []
    body_sent = asyncio.Event()
    watch.statements.clear()

    async def receive() -> dict[str, Any]:
        if body_sent.is_set():
            await asyncio.Event().wait()
        body_sent.set()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope: dict[str, Any] = {"type": "http", "method": method, "path": address, "raw_path": address.encode()}
    scope |= {"query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "extensions": {}}
    await dispatch(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in sent[1:])
    body = json.loads(text) if text else None
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body["error"].pop("request_id", None)
    told = [(name, value) for name, value in sent[0]["headers"] if name.lower() not in CHANGING]
    return Told(sent[0]["status"], told, body, list(watch.statements))


def in_process(tenant: Tenant, work: Any) -> Any:
    """Runs with services and routes on the hub's data; the database is watched."""
    limits = RateLimits(10**9, 10**9, 10**9)

    async def run() -> Any:
        async with AsyncExitStack() as stack:
            services = await build(
                make_settings(tenant.hub.data, listen="127.0.0.1:1", rate_limits=limits), stack
            )
            await services.revocations.refresh()
            found = routes(services)
            return await work(services, Dispatch(services, found), found, Watch(services))

    return asyncio.run(run())


def test_enumeration_by_error(acme: Tenant, rival: Tenant, secret: Member) -> None:
    """Every route, without a credential and with those of a stranger: the same status, headers and words."""
    bound = rival.resolve_only("1", ATTRIBUTE)

    async def work(services: Services, dispatch: Dispatch, found: Sequence[Route], watch: Watch) -> list[str]:
        differing = []
        for token in (None, rival.token, bound):
            for method, there, missing in pairs(found, secret):
                first = await ask(dispatch, method, there, token, watch)
                second = await ask(dispatch, method, missing, token, watch)
                told = [(each.status, each.headers, each.body) for each in (first, second)]
                if told[0] != told[1] or first.status < 400:
                    differing.append(f"{method} {there}: {told}")
        return differing

    assert in_process(acme, work) == []


def test_enumeration_by_timing_class(acme: Tenant, rival: Tenant, secret: Member) -> None:
    """The hub does the same for both: asks its database the same, and takes as long to within a few per cent
    (of processor time, which other programs don't change)."""

    async def work(services: Services, dispatch: Dispatch, found: Sequence[Route], watch: Watch) -> list[str]:
        differing = []
        for token in (None, rival.token):
            for method, there, missing in pairs(found, secret):
                first = await ask(dispatch, method, there, token, watch)
                second = await ask(dispatch, method, missing, token, watch)
                if first.statements != second.statements:
                    differing.append(f"{method} {there}: {first.statements} and {second.statements}")
        narinfo = [
            f"/cache/{name}/{secret.path.hash_part}.narinfo" for name in ("acme/vault", "nobody/vault")
        ]
        for tries in range(3):
            spent: tuple[list[float], list[float]] = ([], [])
            for _ in range(300):
                for place, address in enumerate(narinfo):
                    began = time.process_time()
                    await ask(dispatch, "GET", address, rival.token, watch)
                    spent[place].append(time.process_time() - began)
            hidden, absent = map(statistics.median, spent)
            if abs(hidden - absent) < 0.15 * absent:
                break
            if tries == 2:
                differing.append(f"{hidden * 1e6:.0f} and {absent * 1e6:.0f} microseconds")
        return differing

    assert in_process(acme, work) == []
