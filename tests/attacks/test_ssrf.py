"""SSRF: an issuer, or what its documents name, is to make the hub connect to where only the hub can."""

import asyncio
import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from piste.hub.egress.outbound import Egress
from piste.hub.egress.rules import Allowances, EgressError
from tests.hub.process import Answer, Hub, wait_for
from tests.identities.openid import Certificate
from tests.running.tenants import Tenant, make_tenant

_COUNT = iter(range(1_000_000))


class Listener:
    """A service in the hub's own network; counts who connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()


@pytest.fixture
def inside() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Hub]:
    """It may fetch from the host `localhost`, where the attacker's issuer is; not from 127.0.0.1."""
    made = Hub(tmp_path_factory.mktemp("hub"), None, ("--allow-egress", "localhost"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def tenant(hub: Hub) -> Tenant:
    return make_tenant(hub, f"acme{next(_COUNT)}", "web")


@contextmanager
def issuer(
    certificate: Certificate, jwks: str, *, redirect: str | None = None
) -> Iterator[tuple[str, list[str]]]:
    """The attacker's issuer, whose document names `jwks`; its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302 if redirect else 200)
            if redirect:
                self.send_header("Location", redirect)
            self.end_headers()
            self.wfile.write(json.dumps({"issuer": address, "jwks_uri": jwks}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attempt(tenant: Tenant, issuer: str) -> Answer:
    """The attacker is an admin of an organization: trusts an issuer, then brings an identity of it."""
    rule = {"project": "web", "issuer": issuer, "claims": {"repository_id": ["1"]}}
    tenant.hub.as_admin("POST", f"/api/v1/organizations/{tenant.organization}/trust", json=rule)
    token = ".".join(
        _encoded(part)
        for part in (
            {"alg": "RS256", "kid": "k"},
            {"iss": issuer, "sub": "s", "aud": "a", "exp": 1 << 33, "iat": 1},
            {"signature": "none"},
        )
    )
    asked = {"organization": tenant.organization, "project": "web", "version": "1.0.0"}
    return tenant.hub.request("POST", "/api/v1/identities/session", token=token, json=asked)


def _encoded(part: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"]
)
def test_ssrf_by_issuer(tenant: Tenant, inside: Listener, host: str) -> None:
    answer = attempt(tenant, f"https://{host}:{inside.port}")
    assert (answer.status, answer.ref) == (503, "issuer-unreachable")
    assert inside.connections == 0


def test_ssrf_by_jwks(tenant: Tenant, inside: Listener, certificate: Certificate) -> None:
    for target in (
        f"https://127.0.0.1:{inside.port}/keys",
        f"https://[::ffff:7f00:1]:{inside.port}/keys",
        f"http://localhost:{inside.port}/keys",
        f"https://localhost@127.0.0.1:{inside.port}/keys",
        "file:///etc/passwd",
        "https://169.254.169.254/latest/meta-data/",
    ):
        with issuer(certificate, target) as (address, asked):
            answer = attempt(tenant, address)
            assert (answer.status, answer.ref) == (503, "issuer-unreachable"), target
            assert asked == ["/.well-known/openid-configuration"]
    assert inside.connections == 0


def test_ssrf_by_redirect(tenant: Tenant, inside: Listener, certificate: Certificate) -> None:
    target = f"https://127.0.0.1:{inside.port}/"
    with issuer(certificate, target, redirect=target) as (address, _):
        assert attempt(tenant, address).ref == "issuer-unreachable"
    assert inside.connections == 0


def test_what_the_hub_saw_inside_is_told_to_nobody(tenant: Tenant, inside: Listener) -> None:
    """An open port, a closed one, a refused address: one answer."""
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    answers = []
    for address in (f"https://localhost:{inside.port}", f"https://localhost:{port}", "https://127.0.0.1"):
        problem = attempt(tenant, address).json()["error"]
        problem.pop("request_id")
        answers.append(problem)
    assert answers[0] == answers[1] == answers[2]
    wait_for(lambda: len(tenant.hub.log_lines("issuer-not-read")) >= 3)


@pytest.mark.parametrize(
    "target",
    [
        "http://hooks.example.org/piste",
        "https://127.0.0.1/hook",
        "https://2130706433/hook",
        "https://[::1]/hook",
        "https://[::ffff:10.0.0.1]/hook",
        "https://[fe80::1]/hook",
        "https://169.254.169.254/latest/meta-data/",
        "https://100.100.100.200/latest/meta-data/",
        "https://10.1.2.3/hook",
        "https://192.168.0.1:8443/hook",
        "https://localhost./hook",
        "https://hooks.example.org@127.0.0.1/hook",
        "https://hooks.example.org#@127.0.0.1/hook",
        "https://hooks.example.org\\@127.0.0.1/hook",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "file:///etc/passwd",
    ],
)
def test_ssrf_by_webhook(target: str) -> None:
    """Whatever the hub may come to fetch for somebody has one way out, and that does not lead inside."""
    with pytest.raises(EgressError):
        asyncio.run(Egress(Allowances()).fetch(target))


def test_ssrf_by_a_webhooks_name_that_means_another_address_the_second_time(inside: Listener) -> None:
    """A name is looked up once, and the connection goes to an address that was checked."""
    answers = [["203.0.113.7"], ["127.0.0.1"], ["127.0.0.1"]]
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    with pytest.raises(EgressError):
        asyncio.run(
            Egress(Allowances(), resolve=resolve).fetch(
                f"https://hooks.example.org:{inside.port}/hook", seconds=0.5
            )
        )
    assert asked == ["hooks.example.org"] and inside.connections == 0
