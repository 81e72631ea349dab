"""Single requests: what is repeated, what is not, and what people are told."""

import io
import os
import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from piste.client.address import parse_address
from piste.client.api import HubClient
from piste.client.credentials import Credential
from piste.client.hub import tls_context
from piste.lib.errors import AccessError, PisteError, UnreachableError
from piste.lib.retry import Backoff
from piste.wire.publication import OpenPublication
from tests.client.server import Misbehaving, answer, hang_up, serving
from tests.identities.openid import make_certificate

DATA = bytes(range(256)) * 4096  # 1 MiB
STATUS = b'{"logged_in":true,"user":"ada","kind":"user","organizations":["acme"],"expires_at":null}'


def client_of(server: Misbehaving, token: str | None = "secret", attempts: int = 3) -> HubClient:
    credential = Credential(parse_address(server.url), token)
    return HubClient(credential, backoff=Backoff(attempts, first=0.001), timeout=5)


def error_body(ref: str, hint: str | None = None) -> bytes:
    tail = f',"hint":"{hint}"' if hint else ""
    return f'{{"error":{{"ref":"{ref}","message":"No."{tail}}}}}'.encode()


def test_a_request_carries_the_token_and_is_one_request() -> None:
    with serving(lambda handler, number: answer(handler, 200, STATUS)) as server:
        assert client_of(server).status().user == "ada"
    assert len(server.seen) == 1
    assert server.seen[0][2]["Authorization"] == "Bearer secret"


def test_requests_share_a_connection() -> None:
    ports = set()

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        ports.add(handler.client_address[1])
        answer(handler, 200, STATUS)

    with serving(behaviour) as server, client_of(server) as client:
        for _ in range(3):
            client.get(object, "x")
    assert len(ports) == 1


def test_what_changes_nothing_is_asked_again_when_the_connection_breaks() -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            hang_up(handler)
        elif number == 2:
            answer(handler, 503, b"")
        else:
            answer(handler, 200, STATUS)

    with serving(behaviour) as server:
        assert client_of(server).status().logged_in
    assert len(server.seen) == 3


def test_what_may_have_happened_is_not_asked_again() -> None:
    with (
        serving(lambda handler, number: hang_up(handler)) as server,
        pytest.raises(UnreachableError) as caught,
    ):
        client_of(server).open_publication("acme", "web", OpenPublication("1.0.0"))
    assert len(server.seen) == 1
    assert caught.value.exit_code == 4


def test_a_hub_that_is_down_is_unreachable_with_a_hint() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = parse_address(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(UnreachableError) as caught:
            HubClient(Credential(address), backoff=Backoff(2, first=0.001)).status()
    assert caught.value.ref == "hub-unreachable"
    assert "/healthz" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [(401, AccessError, 6), (403, AccessError, 6), (404, PisteError, 1), (409, PisteError, 1)],
)
def test_a_refusal_keeps_the_hubs_words(status: int, kind: type[PisteError], exit_code: int) -> None:
    body = error_body("forbidden", "Ask an admin.")
    with (
        serving(lambda handler, number: answer(handler, status, body)) as server,
        pytest.raises(kind) as caught,
    ):
        client_of(server).status()
    assert (caught.value.ref, caught.value.message, caught.value.hint) == (
        "forbidden",
        "No.",
        "Ask an admin.",
    )
    assert caught.value.exit_code == exit_code
    assert len(server.seen) == 1


def test_a_hub_that_stays_busy_is_an_unknown_outcome() -> None:
    with (
        serving(lambda handler, number: answer(handler, 503, error_body("overloaded"))) as server,
        pytest.raises(UnreachableError),
    ):
        client_of(server).status()
    assert len(server.seen) == 3


def test_somebody_else_who_answers_is_no_hub() -> None:
    with (
        serving(lambda handler, number: answer(handler, 200, b"<html>")) as server,
        pytest.raises(PisteError) as caught,
    ):
        client_of(server).status()
    assert caught.value.ref == "bad-answer"


def test_tls_and_plain_http_that_are_taken_for_one_another_are_told_apart() -> None:
    def alert(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.wfile.write(b"\x15\x03\x01\x00\x02\x02\x46")  # what TLS says to anything else
        handler.close_connection = True

    with (
        serving(alert) as server,
        pytest.raises(UnreachableError, match="does not answer as a hub") as caught,
    ):
        client_of(server, attempts=1).status()
    assert "https://" in (caught.value.hint or "")

    with serving(lambda handler, number: answer(handler, 200, STATUS)) as server:
        address = parse_address(server.url.replace("http:", "https:"))
        with pytest.raises(UnreachableError, match="does not speak TLS"):
            HubClient(Credential(address), backoff=Backoff(1, first=0.001), timeout=5).status()


def test_a_redirect_is_not_followed_so_no_token_goes_elsewhere() -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 302, b"", Location="http://other.example.org/")

    with serving(behaviour) as server, pytest.raises(PisteError) as caught:
        client_of(server).status()
    assert caught.value.ref == "bad-answer"


def test_without_a_token_a_refusal_hints_at_logging_in() -> None:
    with (
        serving(lambda handler, number: answer(handler, 401, error_body("credential-missing"))) as server,
        pytest.raises(AccessError) as caught,
    ):
        client_of(server, token=None).status()
    assert "Authorization" not in server.seen[0][2]
    assert "piste login" in (caught.value.hint or "")


def upload(server: Misbehaving, client: HubClient | None = None) -> bytes:
    headers = {"Content-Length": str(len(DATA))}
    return (client or client_of(server)).request(
        "POST", ("x",), io.BytesIO(DATA), headers=headers, repeatable=True
    )


def body_of(handler: BaseHTTPRequestHandler) -> bytes:
    return handler.rfile.read(int(handler.headers["Content-Length"]))


def test_an_upload_that_breaks_off_is_sent_again_from_its_beginning() -> None:
    bodies = []

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 1:
            handler.rfile.read(1000)
            hang_up(handler)
            return
        bodies.append(body_of(handler))
        answer(handler, 200, b"thanks")

    with serving(behaviour) as server:
        assert upload(server) == b"thanks"
    assert (bodies, len(server.seen)) == ([DATA], 2)


def test_an_upload_that_is_refused_is_not_sent_again() -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        body_of(handler)
        answer(handler, 422, error_body("bad-nar"))

    with serving(behaviour) as server, pytest.raises(PisteError) as caught:
        upload(server)
    assert (caught.value.ref, len(server.seen)) == ("bad-nar", 1)


def test_an_identity_that_has_expired_is_replaced_in_the_middle() -> None:
    fresh = iter(["second", "third"])

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        body_of(handler)
        if handler.headers["Authorization"] == "Bearer first":
            answer(handler, 401, error_body("identity-expired"))
        else:
            answer(handler, 200, b"thanks")

    with serving(behaviour) as server:
        client = client_of(server, None)
        client.use_token("first", lambda: next(fresh))
        assert upload(server, client) == b"thanks"
        assert upload(server, client) == b"thanks"
    assert [each[2]["Authorization"][7:] for each in server.seen] == ["first", "second", "second"]


def test_a_credential_that_can_not_be_replaced_is_refused_once() -> None:
    with serving(lambda handler, _: answer(handler, 401, error_body("credential-unknown"))) as server:
        client = client_of(server, None)
        client.use_token("first", lambda: "second")
        with pytest.raises(AccessError):
            client.status()
    assert len(server.seen) == 2


def test_certificates_are_read_once_for_all_connections_and_again_when_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "trusted"
    old, new = (tmp_path / name for name in ("old", "new"))
    made = []
    for folder in (old, new):
        folder.mkdir()
        made.append(make_certificate(folder).file)
        os.utime(made[-1], (1, 1))  # as all files of a Nix store have it
    trusted.symlink_to(made[0])
    monkeypatch.setenv("NIX_SSL_CERT_FILE", str(trusted))
    before = tls_context()
    assert tls_context() is before

    made[1].write_bytes(made[0].read_bytes() + made[1].read_bytes())
    os.utime(made[1], (1, 1))
    trusted.unlink()
    trusted.symlink_to(made[1])
    assert tls_context().cert_store_stats()["x509"] == before.cert_store_stats()["x509"] + 1
