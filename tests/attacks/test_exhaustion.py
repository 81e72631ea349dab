"""Requests that are small and would keep the hub busy for minutes, or fill its memory."""

import base64
import json
import re
import socket
import sqlite3
import time
import tracemalloc
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from piste.hub.flakehub.output_shapes import output_groups
from piste.hub.http1.memory import Keep, Memory
from piste.hub.plan.rules import MOST_BASES
from piste.hub.resolve.rules import near
from tests.attacks.answers import publication
from tests.hub.process import Hub, wait_for
from tests.running.closures import ATTRIBUTE, member, publish
from tests.running.tenants import Tenant

MEMORY = 250  # MB that a hub may ever have
DEEP = b"[" * 400_000 + b"]" * 400_000


@pytest.fixture(scope="module")
def shown(acme: Tenant) -> Tenant:
    """A project that everybody may see."""
    tenant = acme.another_project("shown", "public")
    path = member("shown", "to all", b"to all")
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", [path])
    return tenant


def highest_memory(hub: Hub) -> int:
    """In MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{hub.pid}/status").read_text())
    assert found is not None
    return int(found[1]) >> 10


def connect(hub: Hub) -> socket.socket:
    address = urlsplit(hub.url)
    return socket.create_connection((address.hostname, address.port), 60)


def stage(tenant: Tenant, body: bytes) -> int:
    digest = base64.b64encode(bytes(32)).decode()
    path = f"/upload/{tenant.name}/2.0.0/1000/{digest}"
    return tenant.hub.request("POST", path, token=tenant.token, body=body).status


def test_brackets_within_brackets_are_a_bad_request(shown: Tenant) -> None:
    hub = shown.hub
    body = b'{"unknown":' + DEEP + b"}"
    asked = [
        ("POST", f"{shown.api}/publications"),
        ("POST", f"{publication(shown, '3.0.0')}/declarations"),
        ("POST", f"{shown.api}/pushes"),
        ("POST", f"{shown.api}/plan/1/{ATTRIBUTE}"),
        ("POST", "/_api/v1/get-missing-paths"),
        ("PUT", "/_api/v1/upload-path"),
    ]
    for method, path in asked:
        described = {"x-attic-nar-info-preamble-size": str(len(body))} if method == "PUT" else {}
        answer = hub.request(method, path, token=shown.token, body=body, headers=described)
        assert answer.status == 400, f"{path}: {answer.status}"


def test_metadata_of_nothing_but_brackets_are_refused_before_they_are_taken_apart(shown: Tenant) -> None:
    empty = b"{}," * 2_000_000 + b"{}"
    assert stage(shown, b'{"raw_flake_metadata":[' + empty + b"]}") == 400
    assert stage(shown, b'{"outputs":{"inventory":{"packages":[' + empty + b"]}}}") == 400
    assert highest_memory(shown.hub) < MEMORY


def test_declarations_and_questions_of_nothing_take_no_memory(shown: Tenant) -> None:
    hub, before = shown.hub, highest_memory(shown.hub)
    declarations = [f"{publication(shown, '4.0.0')}/declarations", f"{shown.api}/pushes"]
    empty = b'{"paths":[' + b"{}," * 5_000_000 + b"{}]}"
    numbers = b'{"paths":[' + b"1," * 8_000_000 + b"1]}"
    for path in declarations:
        assert hub.request("POST", path, token=shown.token, body=empty).ref == "body-too-large"
        assert hub.request("POST", path, token=shown.token, body=numbers).ref == "bad-request"
    asked = b'{"paths":[' + b'"",' * 5_000_000 + b'""]}'
    answer = hub.request("POST", f"{shown.api}/pushes/missing", token=shown.token, body=asked)
    assert answer.ref == "body-too-large"
    assert highest_memory(hub) - before < 45  # none of it twice


def test_a_host_that_names_a_million_paths_takes_no_memory(shown: Tenant) -> None:
    body = json.dumps({"paths": base64.b64encode(b"\x01" * 740_000).decode()}).encode()
    before = highest_memory(shown.hub)
    answer = shown.hub.request("POST", f"{shown.api}/plan/1/{ATTRIBUTE}", body=body)
    assert answer.status == 200
    assert highest_memory(shown.hub) - before < 30


def test_names_that_are_made_to_look_alike_are_soon_compared() -> None:
    names = [f"packages.x86_64-linux.{'pkg' * 12}{number:05}" for number in range(10_000)]
    began = time.process_time()
    found = near(f"packages.x86_64-linux.{'gkp' * 13}", [*names, "x" * 8000])
    assert len(found) == 5
    assert near("x" * 8000, ["x" * 8000]) == []
    assert time.process_time() - began < 1


def test_an_inventory_with_a_platform_for_each_output_is_soon_sorted() -> None:
    leaves: dict[str, Any] = {f"n{number}": {"forSystems": [f"s{number}"]} for number in range(30_000)}
    document = json.dumps({"outputs": {"inventory": {"packages": {"children": leaves}}}})
    began = time.process_time()
    assert len(output_groups([], document)["packages"]["outputs"]) == 30_000
    assert time.process_time() - began < 3


def test_slow_bodies_of_nobody_fill_no_memory_and_stop_nobody(shown: Tenant) -> None:
    hub = shown.hub
    head = b"POST /_api/v1/get-missing-paths HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(60):
            slow = stack.enter_context(closing(connect(hub)))
            with suppress(ConnectionError):
                slow.sendall(head + b"[" + b" " * 3_900_000)
        assert highest_memory(hub) < MEMORY
        assert hub.request("POST", f"{shown.api}/plan/1/{ATTRIBUTE}").status == 200
        own = {"cache": "acme+shown", "store_path_hashes": ["0" * 32] * 90_000}
        answer = hub.request("POST", "/_api/v1/get-missing-paths", token=shown.token, json=own)
        assert answer.json() == {"missing_paths": ["0" * 32]}


def test_answers_that_are_kept_for_many_askers_fill_no_memory() -> None:
    memory, keep = Memory(), Keep(time.monotonic() + 60, "/x", None, "-")
    tracemalloc.start()
    try:
        for number in range(1900):
            headers = b"X: %d" % number + b"a" * 60_000
            memory.keep("192.0.2.1", b"GET /x", headers, keep, b"answer", memory.generation)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()


def test_a_release_has_deltas_against_a_few_others_however_many_are_named(shown: Tenant) -> None:
    hub, tenant = shown.hub, shown.another_project("often", "public")
    digests = []
    for number in range(MOST_BASES + 4):
        path = member("often", ("often", number), b"%d" % number)
        with tenant.client() as client:
            publish(client, tenant.organization, tenant.project, f"1.{number}.0", [path])
        found = hub.request("GET", f"{tenant.api}/resolve/=1.{number}.0/{ATTRIBUTE}").json()
        digests.append(found["manifest"])

    def pairs(target: str) -> int:
        with closing(sqlite3.connect(f"file:{hub.data}/piste.sqlite?mode=ro", uri=True)) as database:
            counted = database.execute("SELECT count(*) FROM delta_pair WHERE target = ?", [target])
            return int(counted.fetchone()[0])

    def name(number: int, base: str) -> None:
        query = f"have={base.removeprefix('sha256:')}"
        assert hub.request("GET", f"{tenant.api}/plan/=1.{number}.0/{ATTRIBUTE}?{query}").status == 200

    for base in digests[:-1]:
        name(len(digests) - 1, base)
    name(0, digests[1])  # they are made one after another: once this is, the others were
    wait_for(lambda: pairs(digests[0]) == 1, seconds=60)
    assert pairs(digests[-1]) == MOST_BASES
