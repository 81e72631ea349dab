"""Tokens: their form, the ways they are sent, what they open, and how they end."""

import base64
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from piste.hub.access.closure_token import (
    ClosureClaims,
    is_authentic,
    make_closure_token,
    read_closure_token,
)
from piste.hub.access.records import Actor, Kind
from piste.hub.access.token_text import PREFIXES, make_token, token_kind
from piste.hub.errors import HubError
from piste.hub.services import Services
from piste.lib.identifiers import new_id
from tests.hub.conftest import RunWithServices
from tests.hub.process import Hub, wait_for

CLAIMS = ClosureClaims(
    key_id=7,
    expires=2_000_000_000,
    manifest="sha256:" + "ab" * 32,
    parent="018f0000-0000-7000-8000-000000000001",
    project="018f0000-0000-7000-8000-000000000002",
)


def test_a_token_has_a_prefix_and_a_checksum_and_no_two_are_the_same() -> None:
    for kind, prefix in PREFIXES.items():
        made = {make_token(kind) for _ in range(100)}
        assert len(made) == 100
        assert all(text.startswith(prefix) and len(text) == len(prefix) + 49 for text in made)
        assert all(token_kind(text) is kind for text in made)


def test_a_token_with_one_character_changed_is_no_token() -> None:
    text = make_token(Kind.USER)
    for place in range(len("piste_user_"), len(text)):
        other = "A" if text[place] != "A" else "B"
        assert token_kind(text[:place] + other + text[place + 1 :]) is None


def test_a_closure_token_says_what_it_was_made_of() -> None:
    text = make_closure_token(CLAIMS, b"k" * 32)
    parts = read_closure_token(text)
    assert parts is not None
    claims, body, mac = parts
    assert claims == CLAIMS
    assert is_authentic(body, mac, b"k" * 32)
    assert not is_authentic(body, mac, b"l" * 32)


def test_a_closure_token_of_nobody_has_no_parent() -> None:
    claims = ClosureClaims(1, 2_000_000_000, CLAIMS.manifest, "", CLAIMS.project)
    parts = read_closure_token(make_closure_token(claims, b"k" * 32))
    assert parts is not None
    assert parts[0].parent == ""


def test_no_character_of_a_closure_token_can_be_changed() -> None:
    text = make_closure_token(CLAIMS, b"k" * 32)
    for place in range(len("piste_closure_"), len(text)):
        other = "A" if text[place] != "A" else "B"
        parts = read_closure_token(text[:place] + other + text[place + 1 :])
        assert parts is None or not is_authentic(parts[1], parts[2], b"k" * 32)
    assert read_closure_token(text + "A") is None
    assert read_closure_token(text[:-1]) is None


def test_a_closure_token_is_checked_without_asking_the_database(with_services: RunWithServices[None]) -> None:
    async def check(services: Services) -> None:
        text, _ = await services.closures.issue(_nobody(), new_id(services.clock()), CLAIMS.manifest)
        await services.revocations.refresh()
        await services.closures.check(text)
        # Whoever asks a closed database fails.
        await services.database.close()
        assert (await services.closures.check(text)).kind is Kind.CLOSURE

    with_services(check)


def test_a_closure_token_ends_after_its_hour(with_services: RunWithServices[None]) -> None:
    async def expire(services: Services) -> None:
        text, expires = await services.closures.issue(_nobody(), new_id(services.clock()), CLAIMS.manifest)
        hour = 3600 * 1_000_000
        assert services.clock() + hour - 1_000_000 <= expires <= services.clock() + hour
        await services.closures.check(text)
        object.__setattr__(services.closures, "_clock", lambda: expires)
        with pytest.raises(HubError) as caught:
            await services.closures.check(text)
        assert caught.value.ref == "credential-expired"

    with_services(expire)


def test_a_closure_token_ends_with_its_manifest_and_later_ones_do_not(
    with_services: RunWithServices[None],
) -> None:
    async def revoke(services: Services) -> None:
        project = new_id(services.clock())
        text, _ = await services.closures.issue(_nobody(), project, CLAIMS.manifest)
        async with services.database.transaction() as connection:
            await services.revocations.add_manifest(connection, project, CLAIMS.manifest)
        await services.revocations.refresh()
        with pytest.raises(HubError):
            await services.closures.check(text)
        later = services.clock() + 60 * 1_000_000
        object.__setattr__(services.closures, "_clock", lambda: later)
        again, _ = await services.closures.issue(_nobody(), project, CLAIMS.manifest)
        await services.closures.check(again)

    with_services(revoke)


@pytest.mark.parametrize(
    "make_header",
    [
        lambda token: f"Bearer {token}",
        lambda token: f"bearer {token}",
        lambda token: "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode(),
        lambda token: "basic " + base64.b64encode(f":{token}".encode()).decode(),
    ],
)
def test_a_token_is_taken_in_every_dialect(sqlite_hub: Hub, make_header: Callable[[str], str]) -> None:
    header = {"Authorization": make_header(sqlite_hub.admin)}
    assert sqlite_hub.request("GET", "/api/v1/status", headers=header).json()["user"] == "admin"


@pytest.mark.parametrize(
    ("header", "status", "ref"),
    [
        ("Bearer nonsense", 401, "credential-unknown"),
        ("Bearer ", 401, "credential-unknown"),
        ("Bearer piste_closure_AAAA", 401, "credential-unknown"),
        ("Basic !!!", 400, "bad-request"),
        ("Basic " + base64.b64encode(b"user:").decode(), 401, "credential-unknown"),
        ("Digest username=x", 400, "bad-request"),
    ],
)
def test_a_wrong_credential_is_never_silently_nobody(
    sqlite_hub: Hub, header: str, status: int, ref: str
) -> None:
    for path in ("/api/v1/status", "/healthz", "/api/v1/nothing"):
        answer = sqlite_hub.request("GET", path, headers={"Authorization": header})
        assert (answer.status, answer.ref) == (status, ref)


def test_a_token_in_place_of_the_user_name_is_refused_with_a_hint(sqlite_hub: Hub) -> None:
    text = base64.b64encode(f"{sqlite_hub.admin}:".encode()).decode()
    answer = sqlite_hub.request("GET", "/healthz", headers={"Authorization": f"Basic {text}"})
    assert (answer.status, answer.ref) == (401, "credential-as-user-name")
    assert "password" in answer.json()["error"]["hint"]
    assert len(answer.headers.get_all("www-authenticate") or []) == 2


def test_two_authorization_headers_are_refused(sqlite_hub: Hub) -> None:
    request = (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n"
    )
    assert _raw(sqlite_hub, request).startswith(b"HTTP/1.1 400 ")


def test_an_unknown_and_a_revoked_token_are_answered_alike(hub: Hub) -> None:
    hub.as_admin("POST", "/api/v1/organizations", json={"name": "acme"})
    token = hub.make_token("acme")
    listed = hub.as_admin("GET", "/api/v1/organizations/acme/tokens")
    hub.as_admin("DELETE", f"/api/v1/organizations/acme/tokens/{listed[0]['id']}")
    bodies = []
    for text in (token, make_token(Kind.USER)):
        answer = hub.request("GET", "/api/v1/status", token=text)
        assert answer.status == 401
        problem = answer.json()["error"]
        del problem["request_id"]
        bodies.append(problem)
    assert bodies[0] == bodies[1]


def test_a_revocation_holds_in_another_process_at_once(
    make_hub: Callable[..., Hub], database_url: str | None
) -> None:
    first = make_hub(database=database_url)
    second = make_hub(data=first.data, database=database_url)
    first.as_admin("POST", "/api/v1/organizations", json={"name": "acme"})
    token = first.make_token("acme")
    assert second.request("GET", "/api/v1/status", token=token).status == 200
    listed = first.as_admin("GET", "/api/v1/organizations/acme/tokens")
    first.as_admin("DELETE", f"/api/v1/organizations/acme/tokens/{listed[0]['id']}")
    assert second.request("GET", "/api/v1/status", token=token).status == 401


def test_an_expired_token_says_so(sqlite_hub: Hub) -> None:
    _organization(sqlite_hub, "brief")
    token = sqlite_hub.make_token("brief", expires_in=1)
    wait_for(lambda: sqlite_hub.request("GET", "/api/v1/status", token=token).status == 401)
    assert sqlite_hub.request("GET", "/api/v1/status", token=token).ref == "credential-expired"


def test_a_member_manages_own_tokens_alone(sqlite_hub: Hub) -> None:
    _organization(sqlite_hub, "shared")
    member = sqlite_hub.make_member("shared", "mona")
    admin = sqlite_hub.make_member("shared", "ada", "admin")
    tokens = "/api/v1/organizations/shared/tokens"

    def listed(token: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = sqlite_hub.request("GET", tokens, token=token).json()
        return found

    assert {each["person"] for each in listed(member)} == {"mona"}
    assert {each["person"] for each in listed(admin)} == {"mona", "ada"}
    own = sqlite_hub.request("POST", tokens, token=member, json={"kind": "user", "description": "x"})
    assert own.status == 201
    assert "no-store" in own.headers["cache-control"]
    other = {"kind": "user", "description": "x", "person": "ada"}
    assert sqlite_hub.request("POST", tokens, token=member, json=other).status == 403
    theirs = next(each["id"] for each in listed(admin) if each["person"] == "ada")
    assert sqlite_hub.request("DELETE", f"{tokens}/{theirs}", token=member).status == 404
    assert sqlite_hub.request("DELETE", f"{tokens}/{own.json()['id']}", token=member).status == 204
    assert sqlite_hub.request("GET", "/api/v1/status", token=own.json()["token"]).status == 401
    assert not any("token" in each for each in listed(admin))


@pytest.mark.parametrize(
    ("fields", "ref"),
    [
        ({"kind": "closure"}, "bad-request"),
        ({"kind": "device", "person": "admin"}, "bad-request"),
        ({"kind": "device", "requirement": "1"}, "bad-request"),
        ({"description": " "}, "bad-request"),
        ({"expires_in": 0}, "bad-request"),
        ({"expires_in": 10**12}, "bad-request"),
        ({"requirement": "1"}, "bad-request"),
        ({"person": "nobody-knows"}, "bad-request"),
        ({"kind": "resolve-only"}, "bad-request"),
        (
            {"kind": "resolve-only", "project": "web", "requirement": "1.2.3.4", "attribute": "a"},
            "bad-requirement",
        ),
        (
            {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": "a..b"},
            "bad-reference",
        ),
        ({"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": "a"}, "not-found"),
        ({"kind": "resolve-only", "project": "x/y/z", "requirement": "1", "attribute": "a"}, "bad-name"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(sqlite_hub: Hub, fields: dict[str, object], ref: str) -> None:
    _organization(sqlite_hub, "strict")
    asked = {"kind": "user", "description": "x", **fields}
    answer = sqlite_hub.request(
        "POST", "/api/v1/organizations/strict/tokens", token=sqlite_hub.admin, json=asked
    )
    assert answer.ref == ref, answer.body


def test_no_token_is_ever_in_the_log(sqlite_hub: Hub) -> None:
    token = sqlite_hub.admin
    sqlite_hub.request("GET", f"/api/v1/status?token={token}", token=token)
    sqlite_hub.request("GET", f"/{token}", headers={"User-Agent": token, "X-Request-Id": token[:64]})
    wait_for(lambda: any(line["status"] == 404 for line in sqlite_hub.log_lines("request")))
    assert not any(token[11:40] in line for line in sqlite_hub.lines)


def _nobody() -> Actor:
    return Actor()


def _organization(hub: Hub, name: str) -> None:
    hub.request("POST", "/api/v1/organizations", token=hub.admin, json={"name": name})


def _raw(hub: Hub, request: bytes) -> bytes:
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as channel:
        channel.sendall(request)
        received = b""
        while piece := channel.recv(65536):
            received += piece
    return received
