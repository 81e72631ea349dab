"""The one way out: to the public internet over TLS, and to what the operator allows, within bounds."""

import asyncio
import gzip
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from piste.hub.egress.outbound import Egress, Fetched
from piste.hub.egress.rules import Allowances, EgressError, parse_allowances, parse_target, permitted
from tests.identities.openid import Certificate

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(certificate: Certificate, answer: Answer) -> Iterator[int]:
    """A TLS server on 127.0.0.1; its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that go away are what these tests are about

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def plain(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def fetch(url: str, *allowed: str, seconds: float = 5.0, limit: int = 1000) -> Fetched:
    egress = Egress(parse_allowances(allowed))
    return asyncio.run(egress.fetch(url, seconds=seconds, limit=limit))


CLOSED = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.5",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "no address",
]


@pytest.mark.parametrize("address", CLOSED)
def test_an_address_outside_of_the_public_internet_is_refused(address: str) -> None:
    with pytest.raises(EgressError):
        permitted(parse_target("https://ci.example.org/"), [address], Allowances())


@pytest.mark.parametrize("address", ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1::1"])
def test_an_address_of_the_public_internet_is_taken(address: str) -> None:
    assert permitted(parse_target("https://ci.example.org/"), [address], Allowances())


def test_of_several_addresses_only_those_that_are_open_are_used() -> None:
    found = permitted(parse_target("https://ci.example.org/"), ["10.0.0.1", "1.1.1.1", "::1"], Allowances())
    assert [str(address) for address in found] == ["1.1.1.1"]


def test_an_operator_allows_a_network_or_a_host_and_no_more() -> None:
    target, other = parse_target("https://git.internal/x"), parse_target("https://evil.example/x")
    network, host = parse_allowances(["10.1.0.0/16"]), parse_allowances(["Git.Internal"])
    assert permitted(target, ["10.1.2.3"], network) and permitted(target, ["10.9.9.9"], host)
    for resource, address, allowances in (
        (target, "10.2.0.1", network),
        (target, "::ffff:10.1.2.3", network),
        (other, "10.9.9.9", host),
    ):
        with pytest.raises(EgressError):
            permitted(resource, [address], allowances)


@pytest.mark.parametrize("text", ["10.0.0.0/40", "a b", "https://x", "*.example.org", "", "host/8"])
def test_what_is_neither_network_nor_host_can_t_be_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_allowances([text])


@pytest.mark.parametrize(
    "url",
    [
        "http://ci.example.org/",
        "file:///etc/passwd",
        "gopher://ci.example.org/",
        "https://ci.example.org@127.0.0.1/",
        "https://ci.example.org\\@127.0.0.1/",
        "https://127.0.0.1#@ci.example.org/",
        "https://ci.example.org /",
        "https://ci.example.org\r\nHost: x/",
        "https://[fe80::1%25eth0]/",
        "https://bücher.example/",
        "https://ci.example.org:0/",
        "https://ci.example.org:70000/",
        "https://",
        "",
    ],
)
def test_an_address_that_parsers_could_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(EgressError):
        parse_target(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]"]
)
def test_no_spelling_of_this_machine_is_connected_to(certificate: Certificate, host: str) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        plain(b"{}")(handler)

    with serving(certificate, answer) as port, pytest.raises(EgressError):
        fetch(f"https://{host}:{port}/secret")
    assert asked == []


def test_a_document_comes_from_what_is_allowed(certificate: Certificate) -> None:
    with serving(certificate, plain(b'{"a":1}', Cache_Control="max-age=7")) as port:
        found = fetch(f"https://localhost:{port}/x", "localhost")
        assert (found.body, found.headers["cache-control"]) == (b'{"a":1}', "max-age=7")
        assert fetch(f"https://127.0.0.1:{port}/x", "127.0.0.0/8").body == b'{"a":1}'


def test_a_name_is_resolved_once_and_that_address_is_connected_to(certificate: Certificate) -> None:
    """DNS rebinding: the second answer would be another machine."""
    answers = iter([["127.0.0.1"], ["192.0.2.1"]])

    async def resolve(host: str, port: int) -> Sequence[str]:
        return next(answers)

    with serving(certificate, plain(b"{}")) as port:
        egress = Egress(parse_allowances(["127.0.0.1"]), resolve=resolve)
        assert asyncio.run(egress.fetch(f"https://localhost:{port}/")).body == b"{}"
        with pytest.raises(EgressError):
            asyncio.run(egress.fetch(f"https://localhost:{port}/"))


def test_a_redirect_is_not_followed(certificate: Certificate) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        plain(b"", 302, Location="/other")(handler)

    with serving(certificate, answer) as port, pytest.raises(EgressError, match="302"):
        fetch(f"https://localhost:{port}/first", "localhost")
    assert asked == ["/first"]


def test_a_certificate_of_another_host_is_refused(certificate: Certificate) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    with serving(certificate, plain(b"{}")) as port, pytest.raises(EgressError, match="Certificate"):
        egress = Egress(parse_allowances(["127.0.0.1"]), resolve=resolve)
        asyncio.run(egress.fetch(f"https://ci.example.org:{port}/"))


def test_an_answer_that_is_too_long_is_cut_off(certificate: Certificate) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    with serving(certificate, plain(b"x" * 1001)) as port, pytest.raises(EgressError, match="more than"):
        fetch(f"https://localhost:{port}/", "localhost")
    with serving(certificate, endless) as port, pytest.raises(EgressError, match="more than"):
        fetch(f"https://localhost:{port}/", "localhost")


def test_a_compressed_answer_is_not_unpacked(certificate: Certificate) -> None:
    bomb = gzip.compress(b"x" * 1_000_000)
    with (
        serving(certificate, plain(bomb, Content_Encoding="gzip")) as port,
        pytest.raises(EgressError, match="compressed"),
    ):
        fetch(f"https://localhost:{port}/", "localhost", limit=100_000)


def test_an_answer_that_comes_drop_by_drop_is_given_up(certificate: Certificate) -> None:
    stop = threading.Event()

    def dripping(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "900")
        handler.end_headers()
        while not stop.wait(0.02):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    with serving(certificate, dripping) as port:
        try:
            with pytest.raises(EgressError, match="within"):
                fetch(f"https://localhost:{port}/", "localhost", seconds=0.5)
        finally:
            stop.set()


def test_no_proxy_of_the_environment_is_used(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with serving(certificate, plain(b"{}")) as port:
        assert fetch(f"https://localhost:{port}/", "localhost").body == b"{}"


def test_a_visit_keeps_its_connections_and_goes_to_one_host_alone(certificate: Certificate) -> None:
    clients: set[tuple[str, int]] = set()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        clients.add(handler.client_address)
        plain(b"x", 200 if handler.path != "/none" else 404)(handler)

    async def visit(port: int) -> None:
        egress = Egress(parse_allowances(["localhost"]))
        async with egress.visit(f"https://localhost:{port}", connections=2) as visit:
            for number in range(10):
                assert (await visit.fetch(f"https://localhost:{port}/{number}")).body == b"x"
            for refused in (
                f"https://127.0.0.1:{port}/",
                "https://localhost:1/",
                f"https://localhost:{port}/none",
            ):
                with pytest.raises(EgressError):
                    await visit.fetch(refused)

    with serving(certificate, answer) as port:
        asyncio.run(visit(port))
    assert len(clients) == 1


@pytest.mark.parametrize("url", ["https://localhost/", "https://127.0.0.1/", "http://localhost/"])
def test_a_visit_goes_nowhere_that_a_fetch_would_not(url: str) -> None:
    async def visit() -> None:
        with pytest.raises(EgressError):
            async with Egress(Allowances()).visit(url, connections=1):
                pass

    asyncio.run(visit())
