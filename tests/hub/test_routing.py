"""The router works on raw segments, and dispatch answers every odd request in the one shape of an error."""

import socket
from urllib.parse import urlsplit

import pytest
from starlette.responses import Response

from piste.hub.access.records import Permission
from piste.hub.routing import BadTargetError, Exchange, Route, Router, Scope
from tests.hub.process import Hub, wait_for


async def _handler(exchange: Exchange) -> Response:
    raise AssertionError("never called")


def _route(pattern: str, method: str = "GET") -> Route:
    return Route(method, pattern, Permission.PUBLIC, Scope.HUB, _handler)


ROUTER = Router(
    [
        _route("/healthz"),
        _route("/{hash}.narinfo"),
        _route("/{hash}.ls"),
        _route("/nar/{file}"),
        _route("/f/{org}/{project}/{requirement}"),
        _route("/f/pinned/{org}/{project}/{version}/{release}/source.tar.gz"),
        _route("/cache/{org}/{project}/{hash}.narinfo"),
        _route("/cache/{org}/{project}/{hash}.narinfo", "PUT"),
        _route("/cache/{org}/{project}/nix-cache-info"),
        _route("/up/{tail*}"),
    ]
)


@pytest.mark.parametrize(
    ("target", "pattern", "values", "tail"),
    [
        (b"/healthz", "/healthz", (), ""),
        (b"/abc.narinfo", "/{hash}.narinfo", ("abc",), ""),
        (b"/abc.ls", "/{hash}.ls", ("abc",), ""),
        (b"/a.narinfo.narinfo", "/{hash}.narinfo", ("a.narinfo",), ""),
        (b"/nar/x%2Fy", "/nar/{file}", ("x/y",), ""),
        (b"/nar/x%252Fy", "/nar/{file}", ("x%2Fy",), ""),
        (b"/nar/a+b^c|d[e]{f}", "/nar/{file}", ("a+b^c|d[e]{f}",), ""),
        (b"/nar/%zz", "/nar/{file}", ("%zz",), ""),
        (b"/nar/..", "/nar/{file}", ("..",), ""),
        (b"/f/acme/web/%3E=1,%3C3", "/f/{org}/{project}/{requirement}", ("acme", "web", ">=1,<3"), ""),
        (b"/f/acme/web/*", "/f/{org}/{project}/{requirement}", ("acme", "web", "*"), ""),
        ("/f/ä/web/1".encode(), "/f/{org}/{project}/{requirement}", ("ä", "web", "1"), ""),
        (b"/f/pinned/web/1", "/f/{org}/{project}/{requirement}", ("pinned", "web", "1"), ""),
        (b"/cache/a/b/nix-cache-info", "/cache/{org}/{project}/nix-cache-info", ("a", "b"), ""),
        (b"/up/Ab//c+d/e==", "/up/{tail*}", (), "Ab//c+d/e=="),
        (b"/up/d%2Fe", "/up/{tail*}", (), "d%2Fe"),
    ],
)
def test_a_target_is_taken_apart_as_it_was_sent(
    target: bytes, pattern: str, values: tuple[str, ...], tail: str
) -> None:
    match = ROUTER.match(target)
    assert match.routes["GET"].pattern == pattern
    assert (match.values, match.tail) == (values, tail)


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//healthz",
        b"/healthz/",
        b"/nar/",
        b"/nar//x",
        b"/.narinfo",
        b"/f/a/b",
        b"/f/a/b/c/d",
        b"/HEALTHZ",
    ],
)
def test_a_target_that_is_no_route_matches_nothing(target: bytes) -> None:
    assert not ROUTER.match(target).routes


@pytest.mark.parametrize(
    "target", [b"*", b"", b"nar/x", b"/nar/%00", b"/nar/a%00b", b"/nar/%FF%FE", b"/nar/\xff"]
)
def test_a_target_that_is_no_text_is_refused(target: bytes) -> None:
    with pytest.raises(BadTargetError):
        ROUTER.match(target)


def test_parameters_have_the_names_of_their_route() -> None:
    match = ROUTER.match(b"/cache/acme/web/abc.narinfo")
    assert set(match.routes) == {"GET", "PUT"}
    assert match.parameters(match.routes["PUT"]) == {"org": "acme", "project": "web", "hash": "abc"}


def test_two_routes_of_one_method_and_pattern_are_an_error() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Router([_route("/a/{b}"), _route("/a/{c}")])


@pytest.mark.parametrize(
    "target",
    [
        "/healthz/",
        "//healthz",
        "/./healthz",
        "/x/../healthz",
        "/healthz%00",
        "/%FF",
        "/%2Fhealthz",
        "/api/v1/%2e%2e",
    ],
)
def test_a_path_that_plays_games_finds_nothing(sqlite_hub: Hub, target: str) -> None:
    answer = _raw(sqlite_hub, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"ref":"not-found"' in answer


def test_a_method_that_a_route_does_not_have_is_refused_and_named(sqlite_hub: Hub) -> None:
    answer = sqlite_hub.request("PUT", "/healthz")
    assert (answer.status, answer.ref) == (405, "method-not-allowed")
    assert "GET" in answer.json()["error"]["hint"]


def test_missing_and_invisible_are_answered_alike(sqlite_hub: Hub) -> None:
    sqlite_hub.as_admin("POST", "/api/v1/organizations", json={"name": "hidden"})
    sqlite_hub.as_admin("POST", "/api/v1/organizations", json={"name": "other"})
    stranger = sqlite_hub.make_member("other", "stranger")
    for token in (None, stranger):
        answers = [
            sqlite_hub.request(
                "GET", f"/api/v1/organizations/{name}", token=token, headers={"X-Request-Id": "r"}
            )
            for name in ("hidden", "missing", "..", "a%20b")
        ]
        assert {answer.status for answer in answers} == {404}
        assert len({answer.body for answer in answers}) == 1
        assert len({tuple(sorted(set(answer.headers) - {"date"})) for answer in answers}) == 1


def test_names_are_found_in_any_case_and_answered_in_their_own(sqlite_hub: Hub) -> None:
    sqlite_hub.as_admin("POST", "/api/v1/organizations", json={"name": "CamelCase"})
    assert sqlite_hub.as_admin("GET", "/api/v1/organizations/camelCASE")["name"] == "CamelCase"
    again = sqlite_hub.request(
        "POST", "/api/v1/organizations", token=sqlite_hub.admin, json={"name": "camelcase"}
    )
    assert (again.status, again.ref) == (409, "already-exists")


def test_a_body_that_is_larger_than_allowed_is_refused_whatever_it_says_of_itself(sqlite_hub: Hub) -> None:
    path = "/api/v1/organizations"
    body = b"x" * (2 << 20)
    declared = sqlite_hub.request("POST", path, token=sqlite_hub.admin, body=body)
    assert (declared.status, declared.ref) == (413, "body-too-large")
    pieces = (body[:65536] for _ in range(24))
    chunked = sqlite_hub.request("POST", path, token=sqlite_hub.admin, body=pieces)
    assert (chunked.status, chunked.ref) == (413, "body-too-large")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"name": 1}', b'{"name": null}', b"\xff\xfe", b'{"name": "\\ud800"}']
)
def test_a_body_that_is_not_the_message_is_refused(sqlite_hub: Hub, body: bytes) -> None:
    answer = sqlite_hub.request("POST", "/api/v1/organizations", token=sqlite_hub.admin, body=body)
    assert (answer.status, answer.ref) == (400, "bad-request")


def test_headers_have_a_limit(sqlite_hub: Hub) -> None:
    large = sqlite_hub.request("GET", "/healthz", headers={"X-Large": "x" * 70_000})
    assert large.status == 431
    many = "".join(f"X-{number}: y\r\n" for number in range(200))
    request = f"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{many}\r\n"
    assert _raw(sqlite_hub, request.encode()).startswith(b"HTTP/1.1 431 ")


def test_a_client_that_goes_away_in_the_middle_of_a_body_leaves_nothing(sqlite_hub: Hub) -> None:
    parts = urlsplit(sqlite_hub.url)
    head = (
        "POST /api/v1/organizations HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {sqlite_hub.admin}\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as channel:
        channel.sendall(head.encode() + b'{"name": "gone"}')
    wait_for(lambda: any(line["status"] == 499 for line in sqlite_hub.log_lines("request")))
    assert "gone" not in [each["name"] for each in sqlite_hub.as_admin("GET", "/api/v1/organizations")]
    assert not sqlite_hub.log_lines("internal-error")


def test_a_request_has_an_id_that_the_client_may_choose(sqlite_hub: Hub) -> None:
    chosen = sqlite_hub.request("GET", "/nothing", headers={"X-Request-Id": "abc-1.2_3"})
    assert chosen.headers["x-request-id"] == chosen.json()["error"]["request_id"] == "abc-1.2_3"
    refused = sqlite_hub.request("GET", "/healthz", headers={"X-Request-Id": "a b;c"})
    assert refused.headers["x-request-id"] not in ("", "a b;c")


def test_a_log_line_names_the_pattern_and_not_what_was_asked(sqlite_hub: Hub) -> None:
    sqlite_hub.request(
        "GET", "/api/v1/organizations/very-private?query=secret-word", headers={"X-Request-Id": "line"}
    )
    wait_for(lambda: any(line["request_id"] == "line" for line in sqlite_hub.log_lines("request")))
    line = next(line for line in sqlite_hub.log_lines("request") if line["request_id"] == "line")
    assert line["route"] == "/api/v1/organizations/{org}"
    assert (line["method"], line["status"], line["ref"]) == ("GET", 404, "not-found")
    assert not any("secret-word" in text or "very-private" in text for text in sqlite_hub.lines)


def _raw(hub: Hub, request: bytes) -> bytes:
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as channel:
        channel.sendall(request)
        received = b""
        while piece := channel.recv(65536):
            received += piece
    return received
