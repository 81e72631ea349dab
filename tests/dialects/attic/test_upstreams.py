"""What a client leaves out for an upstream's sake, the hub finds there when an output is asked for."""

import os
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler

import pytest

from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import SecretKey
from tests.dialects.attic.exchanges import Client
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.hub.test_publishing_upstreams import upstream_narinfo
from tests.identities.conftest import hub
from tests.identities.openid import Certificate
from tests.identities.test_egress import serving
from tests.running.closures import ATTRIBUTE, Member, member

__all__ = ["hub"]

KEY = SecretKey.generate("upstream-1")


class Upstream:
    """A cache that holds these narinfos, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.asked: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/cache"

    def hold(self, paths: Sequence[Member], key: SecretKey = KEY) -> None:
        for path in paths:
            self.texts[f"/cache/{path.path.hash_part}.narinfo"] = upstream_narinfo(path, key)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        text = self.texts.get(handler.path)
        body = (text or "no").encode()
        handler.send_response(404 if text is None else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def upstream(certificate: Certificate) -> Iterator[Upstream]:
    made = Upstream()
    with serving(certificate, made.answer) as port:
        made.port = port
        yield made


@pytest.fixture
def acme(hub: Hub, upstream: Upstream) -> Acme:
    made = Acme(hub)
    place = f"/api/v1/organizations/{made.organization}/upstreams"
    hub.as_admin("POST", place, json={"url": upstream.url, "public_keys": [str(KEY.public)]})
    return made


@pytest.fixture
def client(acme: Acme) -> Client:
    return Client(acme.hub, f"{acme.organization}+web", acme.member)


def record(acme: Acme, top: Member) -> None:
    """A release as flakehub-push makes it: its output is recorded, its paths come by another way."""
    filling = acme.open("1.0.0")
    filling.declare([], {ATTRIBUTE: top}, required=False)
    filling.source()
    assert filling.finish().status == 200


def test_clients_are_told_which_keys_to_leave_paths_to(client: Client) -> None:
    assert client.config().json()["upstream_cache_key_names"] == ["upstream-1"]


def test_an_output_becomes_available_with_what_the_upstream_has(
    acme: Acme, client: Client, upstream: Upstream
) -> None:
    theirs = chain("glibc", 3, os.urandom(50))
    top = member("app", os.urandom(8), b"", [theirs[-1].path])
    record(acme, top)
    upstream.hold(theirs)
    client.push([top])
    resolved = acme.resolve("1")
    assert resolved.status == 200, resolved.body
    token = resolved.json()["token"]
    for path in theirs:
        narinfo = parse_narinfo(acme.narinfo(path, token=token).body.decode())
        assert {each.partition(":")[0] for each in narinfo.info.signatures} >= {"upstream-1"}
        place = acme.ask("GET", f"{acme.cache}/{narinfo.url}", token=token).headers["Location"]
        assert place.startswith(upstream.url)


def test_a_word_that_does_not_hold_pins_nothing(acme: Acme, client: Client, upstream: Upstream) -> None:
    (theirs,) = chain("forged", 1, os.urandom(50))
    top = member("app", os.urandom(8), b"", [theirs.path])
    record(acme, top)
    upstream.hold([theirs], SecretKey.generate("upstream-1"))
    client.push([top])
    assert acme.resolve("1").ref == "output-not-available"
    assert acme.narinfo(theirs).status == 404
    # Not asked again at once, however often somebody wants it.
    assert acme.resolve("1").ref == "output-not-available"
    assert len(upstream.asked) == 1
