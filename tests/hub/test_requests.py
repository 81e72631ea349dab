"""What happens before a handler: bounded bodies, the client's address, TLS, errors from inside."""

import asyncio
import errno
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from piste.hub import requests
from piste.hub.access.records import Kind, Permission
from piste.hub.access.token_text import make_token
from piste.hub.app import routes
from piste.hub.dispatch import Dispatch
from piste.hub.errors import HubError
from piste.hub.patience import Patience
from piste.hub.requests import BoundedBody, client_address, parse_networks
from piste.hub.routing import Exchange, Route, Scope
from piste.hub.services import Services
from tests.hub.conftest import RunWithServices
from tests.hub.process import Hub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has a second of patience: what is promised is the answer after it, and all of it passes
    where the database is away."""
    monkeypatch.setattr("piste.hub.dispatch.Patience", lambda: Patience(1.0))


def test_a_body_that_stalls_is_given_up_and_a_slow_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "STALL_SECONDS", 0.2)

    async def work() -> None:
        async def slow() -> dict[str, Any]:
            await asyncio.sleep(0.05)
            return {"type": "http.request", "body": b"x", "more_body": True}

        body = BoundedBody(slow, 100)
        for _ in range(8):  # twice as long as a stall in all
            await body()

        async def stalled() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        with pytest.raises(HubError) as caught:
            await BoundedBody(stalled, 100)()
        assert (caught.value.ref, caught.value.status) == ("body-stalled", 408)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("-", "198.51.100.1", "-"),
    ],
)
def test_only_trusted_proxies_say_who_the_client_is(peer: str, forwarded: str | None, expected: str) -> None:
    headers = [] if forwarded is None else [(b"X-Forwarded-For", forwarded.encode())]
    assert client_address(peer, headers, parse_networks(["10.0.0.0/8"])) == expected


@pytest.mark.parametrize(
    ("pattern", "error", "status", "ref"),
    [
        ("/x", RuntimeError("inside"), 500, "internal-error"),
        ("/x", OSError(errno.ENOSPC, "full"), 507, "storage-full"),
        ("/x", OSError(errno.EIO, "broken"), 500, "internal-error"),
        ("/{hash}.narinfo", RuntimeError("inside"), 404, "not-found"),
        ("/{hash}.narinfo", OSError(errno.EIO, "broken"), 404, "not-found"),
        ("/{hash}.narinfo", HubError("overloaded", "busy"), 404, "not-found"),
    ],
)
def test_an_error_from_inside_tells_nothing_of_the_inside_and_a_narinfo_is_then_missing(
    with_services: RunWithServices[None],
    impatient: None,
    pattern: str,
    error: Exception,
    status: int,
    ref: str,
) -> None:
    async def work(services: Services) -> None:
        async def handler(exchange: Exchange) -> Response:
            raise error

        application = Dispatch(services, [Route("GET", pattern, Permission.PUBLIC, Scope.HUB, handler)])
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        target = pattern.replace("{hash}", "abc").encode()
        scope = {
            "type": "http",
            "method": "GET",
            "raw_path": target,
            "headers": [],
            "client": ("127.0.0.1", 1),
        }
        await application(scope, receive, send)
        assert sent[0]["status"] == status
        assert f'"ref":"{ref}"'.encode() in sent[1]["body"]
        assert b"inside" not in sent[1]["body"].replace(b"the inside", b"")

    with_services(work)


def test_the_hub_speaks_tls_itself(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)], check=True, stderr=subprocess.DEVNULL
    )
    hub = make_hub("--tls-cert", str(certificate), "--tls-key", str(key))
    assert hub.url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(f"{hub.url}/healthz", context=context, timeout=20) as answer:
        assert answer.read() == b"ok\n"


@pytest.mark.parametrize(
    "options",
    [
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1:99999"),
        ("--public-url", "hub.example.org"),
        ("--public-url", "https://me@hub.example.org"),
        ("--tls-cert", "/nonexistent"),
        ("--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"),
        ("--trusted-proxy", "nonsense"),
        ("--database", "mysql://x"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_usage_error(tmp_path: Path, options: tuple[str, ...]) -> None:
    failed = Hub(tmp_path / "hub").command("serve", *options, check=False)
    assert failed.returncode == 2, failed.stderr
    assert "hint" in failed.stderr or "error" in failed.stderr


def test_a_narinfo_is_missing_and_not_an_error_while_the_database_is_away(
    with_services: RunWithServices[None], impatient: None
) -> None:
    async def work(services: Services) -> None:
        application = Dispatch(services, routes(services))
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await services.database.close()
        header = (b"authorization", b"Bearer " + make_token(Kind.USER).encode())
        for target in ("/cache/acme/web/", "/"):
            path = f"{target}{'0' * 32}.narinfo".encode()
            await application(
                {"type": "http", "method": "GET", "raw_path": path, "headers": [header], "client": None},
                receive,
                send,
            )
        assert [message["status"] for message in sent if "status" in message] == [404, 404]

    with_services(work)
