"""The hub's own HTTP/1.1: what comes over a socket, byte by byte, and what goes out."""

import asyncio
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from piste.hub.http1.connection import AHEAD
from piste.hub.http1.memory import Memory
from piste.hub.http1.server import Server
from tests.hub.process import Hub, wait_for
from tests.running.closures import Member, member, publish
from tests.running.tenants import Tenant, make_tenant

_LARGE = 9_000_000


@contextmanager
def talking(hub: Hub) -> Iterator[socket.socket]:
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        yield connection


def say(hub: Hub, *pieces: bytes) -> bytes:
    """Everything that is answered until the hub closes the connection."""
    with talking(hub) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.01 if len(pieces) > 1 else 0)  # so that they arrive one by one, most of the time
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(1 << 20):
        found += piece
    return found


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """One answer that has a length: its head and its body."""
    found = b""
    while b"\r\n\r\n" not in found:
        piece = connection.recv(1 << 16)
        assert piece, found
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(1 << 16)
    assert len(body) == length
    return head, body


def request(path: str, *headers: str, method: str = "GET", last: bool = False) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: hub", *headers, *(["Connection: close"] if last else [])]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.fixture(scope="module")
def large() -> Member:
    return member("large", "large", bytes(range(256)) * (_LARGE // 256))


@pytest.fixture(scope="module")
def open_to_all(sqlite_hub: Hub, large: Member) -> Tenant:
    tenant = make_tenant(sqlite_hub, "http", "open", "public")
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", [large])
    return tenant


def test_a_connection_takes_one_request_after_another(sqlite_hub: Hub) -> None:
    with talking(sqlite_hub) as connection:
        for _ in range(3):
            connection.sendall(request("/healthz"))
            assert read_answer(connection)[1] == b"ok\n"


def test_requests_that_are_sent_ahead_are_answered_in_their_order(sqlite_hub: Hub) -> None:
    ahead = [
        request("/healthz"),
        request("/nix-cache-info"),
        request("/missing"),
        request("/healthz", last=True),
    ]
    answer = say(sqlite_hub, b"".join(ahead))
    assert answer.count(b"HTTP/1.1 ") == len(ahead)
    assert (
        answer.index(b"ok\n")
        < answer.index(b"StoreDir")
        < answer.index(b"not-found")
        < answer.rindex(b"ok\n")
    )


def test_only_so_many_requests_are_taken_ahead(sqlite_hub: Hub) -> None:
    ahead = request("/healthz") * (AHEAD * 4)
    answer = say(sqlite_hub, ahead)
    assert 1 <= answer.count(b"HTTP/1.1 200 ") <= AHEAD + 1


def test_a_request_may_arrive_a_few_bytes_at_a_time(sqlite_hub: Hub) -> None:
    whole = request("/healthz", last=True)
    pieces = [whole[place : place + 7] for place in range(0, len(whole), 7)]
    assert say(sqlite_hub, *pieces).endswith(b"ok\n")


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("two lengths", b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ("a length beside chunks", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunks that are not the last coding", b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("a length that is no number", b"Content-Length: +3\r\n\r\nabc"),
        ("a space before the colon", b"Content-Length : 3\r\n\r\nabc"),
        ("a header that goes on in the next line", b"X: a\r\n b\r\n\r\n"),
        ("a header without a name", b": x\r\n\r\n"),
        ("a NUL in a header", b"X: a\0b\r\n\r\n"),
        ("a chunk that is no number", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
    ],
)
def test_what_two_servers_might_read_in_two_ways_is_refused(sqlite_hub: Hub, what: str, text: bytes) -> None:
    smuggled = b"GET /nix-cache-info HTTP/1.1\r\nHost: hub\r\n\r\n"
    with talking(sqlite_hub) as connection:
        connection.sendall(b"POST /api/v1/organizations HTTP/1.1\r\nHost: hub\r\n" + text + smuggled)
        try:
            answer = read_all(connection)
        except ConnectionResetError:
            answer = b""  # refused so early that nothing was left to be said
    assert b"StoreDir" not in answer, what
    assert not answer or answer.startswith(b"HTTP/1.1 4"), what


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: a\r\n" * 101 + b"\r\n", b"431"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: hub\r\n\r\n", b"414"),
        (b"GET /healthz HTTP/3.9\r\n\r\n", b"4"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_a_head_is_bounded_and_has_to_be_one(sqlite_hub: Hub, text: bytes, status: bytes) -> None:
    assert say(sqlite_hub, text).startswith((b"HTTP/1.1 " + status, b"HTTP/1.1 505"))


def test_a_client_that_waits_for_it_is_told_to_go_on_and_only_once_its_body_is_wanted(
    sqlite_hub: Hub,
) -> None:
    body = b'{"name": "expected"}'
    credential = f"Authorization: Bearer {sqlite_hub.admin}"
    waiting = ("Expect: 100-continue", f"Content-Length: {len(body)}")
    with talking(sqlite_hub) as connection:
        connection.sendall(request("/api/v1/organizations", credential, *waiting, method="POST"))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 201 ")
    refused = say(sqlite_hub, request("/api/v1/organizations", *waiting, method="POST"))
    assert refused.startswith(b"HTTP/1.1 40")
    assert b"connection: close" in refused


def test_chunks_make_a_body_and_trailers_are_none_of_it(sqlite_hub: Hub) -> None:
    head = request(
        "/api/v1/organizations", f"Authorization: Bearer {sqlite_hub.admin}", "Transfer-Encoding: chunked",
        "Connection: close", method="POST",
    )  # fmt: skip
    answer = say(
        sqlite_hub, head, b'8\r\n{"name":\r\n', b'a;x=y\r\n "chunked"\r\n', b"1\r\n}\r\n0\r\nX: y\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 201 ")


def test_http_1_0_gets_its_answer_and_the_end_of_the_connection(sqlite_hub: Hub) -> None:
    answer = say(sqlite_hub, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok\n")
    assert b"chunked" not in answer


def test_an_absolute_address_means_its_path(sqlite_hub: Hub) -> None:
    assert say(sqlite_hub, request("http://hub/healthz", last=True)).endswith(b"ok\n")


def test_an_offer_of_another_protocol_is_not_taken_up(sqlite_hub: Hub) -> None:
    offer = request(
        "/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    )
    answer = say(sqlite_hub, offer)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"ok\n")


def test_a_file_comes_whole_and_in_parts_on_one_connection(open_to_all: Tenant, large: Member) -> None:
    path = f"{open_to_all.cache_path}/nar/{large.nar_hash.base32}.nar.zst"
    with talking(open_to_all.hub) as connection:
        connection.sendall(request(path))
        head, whole = read_answer(connection)
        assert head.startswith(b"HTTP/1.1 200 ")
        for wanted, part in (("0-0", whole[:1]), ("100-299", whole[100:300]), ("-7", whole[-7:])):
            connection.sendall(request(path, f"Range: bytes={wanted}"))
            head, body = read_answer(connection)
            assert (head[:13], body) == (b"HTTP/1.1 206 ", part)
        connection.sendall(request(path, method="HEAD") + request("/healthz"))
        found = b""
        while not found.endswith(b"ok\n"):
            found += connection.recv(1000)
        assert f"content-length: {len(whole)}".encode() in found


def test_a_slow_reader_gets_all_of_a_file_and_the_hub_answers_others_meanwhile(sqlite_hub: Hub) -> None:
    tenant = make_tenant(sqlite_hub, "slow", "open", "public")
    noise = member("noise", "noise", _noise(_LARGE))
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", [noise])
    path = f"{tenant.cache_path}/nar/{noise.nar_hash.base32}.nar.zst"
    expected = sqlite_hub.request("GET", path).body
    with talking(sqlite_hub) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(request(path, last=True))
        found = connection.recv(4096)
        assert sqlite_hub.request("GET", "/healthz").status == 200
        found += read_all(connection)
    assert found.partition(b"\r\n\r\n")[2] == expected


def test_a_reader_that_goes_away_in_the_middle_is_logged_as_such(sqlite_hub: Hub) -> None:
    tenant = make_tenant(sqlite_hub, "leaving", "open", "public")
    noise = member("noise", "leaving", _noise(_LARGE))
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", [noise])
    with talking(sqlite_hub) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(
            request(f"{tenant.cache_path}/nar/{noise.nar_hash.base32}.nar.zst", "X-Request-Id: leaver")
        )
        connection.recv(4096)
    wait_for(lambda: any(line["request_id"] == "leaver" for line in sqlite_hub.log_lines("request")))
    line = next(line for line in sqlite_hub.log_lines("request") if line["request_id"] == "leaver")
    assert line["status"] == 499


def _noise(size: int) -> bytes:
    """What can't be compressed."""
    return random.Random(size).randbytes(size)


def test_a_header_that_would_end_before_its_value_is_not_sent() -> None:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        headers = [(b"location", b"/x\r\nset-cookie: a=b")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def answer() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        server = Server(application, listener, Memory())
        serving = asyncio.create_task(server.serve())
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request("/"))
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()
            server.stop()
            await serving

    assert asyncio.run(answer()) == b""
