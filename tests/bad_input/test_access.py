"""Bad input at the door: credentials that are none, that are another's, and requests that play games."""

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.identities.openid import Certificate
from tests.running.closures import ATTRIBUTE
from tests.running.issuer import Issuer

# No test is to end at the limit of another.
OPTIONS = ("--allow-egress", "localhost", "--failed-credentials", "1000000")


@dataclass(frozen=True)
class Place:
    """A hub with two organizations that have a project of the same name, and a CI that publishes to one."""

    hub: Hub
    own: Acme
    other: Acme
    issuer: Issuer

    def identity(self, **claims: Any) -> str:
        return self.issuer.mint(sub="run", repository_id="1", **claims)

    def credentials(self) -> dict[str, str]:
        """One of each kind, for the own organization."""
        organization = self.own.organization
        bound = {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": ATTRIBUTE}
        made = {
            "user": self.own.member,
            "device": self.hub.make_token(organization, kind="device"),
            "resolve-only": self.hub.make_token(organization, **bound),
            "identity": self.identity(),
        }
        made["closure"] = self.own.resolve("1", token=made["resolve-only"]).json()["token"]
        asked = {"organization": organization, "project": "web", "version": "7.0.0"}
        opened = self.hub.request("POST", "/api/v1/identities/session", token=self.identity(), json=asked)
        made["session"] = opened.json()["token"]
        return made


@contextmanager
def running(folder: Path, certificate: Certificate) -> Iterator[Place]:
    hub, issuer = Hub(folder, options=OPTIONS), Issuer(certificate)
    try:
        hub.start()
        own, other = Acme(hub), Acme(hub)
        for acme in (own, other):
            acme.publish("1.0.0", chain(acme.organization))
        rule = {"project": "web", "issuer": issuer.issuer, "claims": {"repository_id": ["1"]}}
        hub.as_admin("POST", f"/api/v1/organizations/{own.organization}/trust", json=rule)
        yield Place(hub, own, other, issuer)
    finally:
        hub.close()
        issuer.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Place]:
    with running(tmp_path_factory.mktemp("hub"), certificate) as made:
        yield made


def doors(acme: Acme) -> list[tuple[str, str]]:
    """Routes for each of the credentials."""
    part = chain(acme.organization)[-1].path.hash_part
    return [
        ("GET", acme.base),
        ("GET", f"{acme.base}/resolve/1/{ATTRIBUTE}"),
        ("GET", f"{acme.base}/releases/1/source"),
        ("GET", f"{acme.cache}/{part}.narinfo"),
        ("POST", f"{acme.base}/publications"),
        ("PUT", f"{acme.cache}/nar/{'0' * 52}.nar"),
        ("GET", f"/project/{acme.organization}/web"),
        ("GET", f"/f/{acme.organization}/web/1/output/{ATTRIBUTE}"),
    ]


def test_a_credential_opens_nothing_of_anothers_project_of_the_same_name(place: Place) -> None:
    for kind, token in place.credentials().items():
        assert {"user", "device", "resolve-only", "identity", "closure", "session"} >= {kind}
        for method, path in doors(place.other):
            answer = place.hub.request(method, path, token=token, json={"version": "7.0.0"})
            assert answer.status == 404, f"{kind}: {method} {path}: {answer.status}"


def test_a_credential_of_another_hub_is_unknown_to_this_one(
    place: Place, tmp_path: Path, certificate: Certificate
) -> None:
    """Also a closure token, whose key has the same number there; and an identity for the other's name."""
    with running(tmp_path / "hub", certificate) as elsewhere:
        for kind, token in elsewhere.credentials().items():
            for method, path in [*doors(place.own), ("GET", "/api/v1/status"), ("GET", "/healthz")]:
                answer = place.hub.request(method, path, token=token)
                assert answer.status == 401, f"{kind}: {method} {path}: {answer.status}"


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def forgeries(identity: str) -> dict[str, str]:
    head, payload, signature = identity.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    symmetric = f"{encoded({**header, 'alg': 'HS256'})}.{payload}"
    mac = hmac.digest(json.dumps(header).encode(), symmetric.encode(), hashlib.sha256)
    own_key = encoded({**header, "jwk": {"kty": "oct", "k": "AAAA"}, "kid": "x"})
    longer = encoded({**said, "exp": said["exp"] + 3600})
    return {
        "none": f"{encoded({**header, 'alg': 'none'})}.{payload}.",
        "none with a signature": f"{encoded({**header, 'alg': 'none'})}.{payload}.{signature}",
        "a shared secret": f"{symmetric}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}",
        "another algorithm": f"{encoded({**header, 'alg': 'RS256'})}.{payload}.{signature}",
        "a key of its own": f"{own_key}.{payload}.{signature}",
        "a longer life": f"{head}.{longer}.{signature}",
        "another project": f"{head}.{encoded({**said, 'repository_id': '2'})}.{signature}",
        "no signature": f"{head}.{payload}.AAAA",
        "four parts": f"{identity}.{signature}",
        "a second spelling": f"{head}=.{payload}.{signature}",
    }


def test_a_forged_identity_opens_no_door_though_the_true_one_was_just_there(place: Place) -> None:
    identity = place.identity()
    assert place.hub.request("GET", f"/project/{place.own.organization}/web", token=identity).status == 200
    for name, forged in forgeries(identity).items():
        for method, path in doors(place.own):
            answer = place.hub.request(method, path, token=forged)
            assert answer.status == 401, f"{name}: {method} {path}: {answer.status} {answer.body!r}"
            assert forged not in answer.body.decode()


def test_an_identity_that_has_expired_or_is_not_yet_opens_no_door(place: Place) -> None:
    """Half a minute is forgiven, as clocks differ; a minute is not."""
    door = f"/project/{place.own.organization}/web"
    assert place.hub.request("GET", door, token=place.identity(age=310)).status == 200
    for late in (place.identity(age=360), place.identity(age=-120)):
        assert place.hub.request("GET", door, token=late).status == 401


def raw(hub: Hub, *lines: str | bytes, body: bytes = b"") -> list[int]:
    """Statuses of all answers to bytes that no library would send; 0 where the hub hangs up, or waits for
    more."""
    parts = urlsplit(hub.url)
    head = b"\r\n".join(line if isinstance(line, bytes) else line.encode("latin-1") for line in lines)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as channel:
        channel.sendall(head + b"\r\n\r\n" + body)
        data = b""
        try:
            while piece := channel.recv(65536):
                data += piece
                channel.settimeout(1)
        except (TimeoutError, ConnectionResetError):
            pass
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]] or [0]


SMUGGLED: list[tuple[str, Callable[[str], list[str | bytes]]]] = [
    ("two credentials", lambda token: [f"Authorization: Bearer {token}", "Authorization: Bearer x"]),
    ("two of one", lambda token: [f"Authorization: Bearer {token}", f"authorization: Bearer {token}"]),
    ("a folded line", lambda token: ["Authorization: Bearer", f" {token}"]),
    ("a space before the colon", lambda token: [f"Authorization : Bearer {token}"]),
    ("a NUL", lambda token: [f"Authorization: Bearer {token}\0"]),
    ("a bare line feed", lambda token: [f"X-A: b\nAuthorization: Bearer {token}\rX: y"]),
    ("an underscore", lambda token: [f"Authorization_: Bearer {token}"]),
    ("a proxy's header", lambda token: [f"Proxy-Authorization: Bearer {token}"]),
    ("a forwarded user", lambda token: ["X-Forwarded-User: admin", "Remote-User: admin"]),
    ("another address", lambda token: ["X-Original-URL: /healthz", "X-Rewrite-URL: /healthz"]),
    ("another method", lambda token: ["X-HTTP-Method-Override: GET"]),
    ("two tokens in one", lambda token: [f"Authorization: Bearer {token}, Bearer {token}"]),
    ("a word after it", lambda token: [f"Authorization: Bearer {token} x"]),
]


@pytest.mark.parametrize("lines", [row[1] for row in SMUGGLED], ids=[row[0] for row in SMUGGLED])
def test_a_header_that_is_smuggled_opens_nothing(
    place: Place, lines: Callable[[str], list[str | bytes]]
) -> None:
    request = [f"GET {place.own.base} HTTP/1.1", "Host: x", "Connection: close"]
    assert raw(place.hub, *request, f"Authorization: Bearer {place.own.member}") == [200]
    statuses = raw(place.hub, *request, *lines(place.own.member))
    assert len(statuses) == 1 and statuses[0] in (0, 400, 401, 404), statuses


def test_a_body_can_not_hide_a_second_request(place: Place) -> None:
    """What a proxy in front takes for a body is no request of its own to the hub, or nothing is done."""
    hidden = (
        f"DELETE {place.own.base} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {place.hub.admin}\r\n\r\n"
    ).encode()
    chunked = b"0\r\n\r\n" + hidden
    for framing in (
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        [f"Content-Length: {len(chunked)}", "Transfer-Encoding: chunked"],
        ["Content-Length: 0", f"Content-Length: {len(hidden)}"],
        ["Content-Length: +0"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding : chunked"],
    ):
        lines = [f"POST {place.own.base}/publications HTTP/1.1", "Host: x", *framing]
        raw(place.hub, *lines, body=chunked if "hunked" in framing[-1] else hidden)
    assert place.hub.request("GET", place.own.base, token=place.own.member).status == 200


def test_a_header_that_is_too_long_is_refused_before_anything_is_looked_up(place: Place) -> None:
    for length in (20_000, 70_000):
        answer = place.hub.request("GET", "/healthz", headers={"Authorization": "Bearer " + "e" * length})
        assert answer.status in (400, 431)
    identity = place.identity(more="x" * 13_000)
    assert len(identity) > 16 * 1024
    assert place.hub.request("GET", "/healthz", token=identity).status in (400, 401)


PATHS = [
    "/api/v1/projects/{other}/../{own}/web/releases",
    "/api/v1/projects/{own}/web%2Freleases",
    "/api/v1/projects/{own}/web/%2e%2e/web/releases",
    "/api/v1/projects/{own}%2Fweb/releases",
    "/api/v1/projects/{own}/web%252Freleases",
    "/api/v1/projects/{own}/web/resolve/1%2F..%2F2/{attribute}",
    "/api/v1/projects/{own}/web/resolve/2%00/{attribute}",
    "/api/v1/projects/{own}/web/resolve/%3D2.0.0/{attribute}",
    "/api/v1/projects/{own}/web/resolve/%253D2.0.0/{attribute}",
    "/api/v1/projects/{own}/web/resolve/1/{attribute}%00",
    "/api/v1/projects/{own}/web/resolve/1/packages%2Ex",
    "/api/v1//projects/{own}/web/releases",
    "/api/v1/projects/{own}/web/releases/",
    "/API/v1/projects/{own}/web/releases",
    "/api/v1/projects/{own};x/web/releases",
    "/cache/{own}/web/..%2f..%2f..%2fapi%2fv1%2fstatus",
    "/cache/{own}/web/nar/..%2f{hash}.narinfo",
    "/cache/{own}/web/%ff.narinfo",
    "http://x/api/v1/projects/{own}/web/releases",
    "/api/v1/status/../projects/{own}/web/releases",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_plays_games_opens_nothing_to_a_bound_token(place: Place, path: str) -> None:
    token = place.credentials()["resolve-only"]
    named = path.format(
        own=place.own.organization,
        other=place.other.organization,
        attribute=ATTRIBUTE,
        hash=chain(place.own.organization)[-1].path.hash_part,
    )
    lines = ["Host: x", "Connection: close", f"Authorization: Bearer {token}"]
    statuses = raw(place.hub, f"GET {named} HTTP/1.1", *lines)
    assert statuses[0] in (0, 400, 403, 404), statuses


def test_no_secret_of_this_page_is_in_the_log(place: Place) -> None:
    for token in place.credentials().values():
        place.hub.request("GET", place.other.base, token=token)
        assert not any(token in line for line in place.hub.lines)
