"""Wrong, mistyped, expired and revoked tokens end every command with 6; a hub that is down ends it with 4."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.bad_input.conftest import Release
from tests.hub.process import Hub, wait_for
from tests.running.closures import ATTRIBUTE
from tests.running.command import Person
from tests.running.nix import write_flake

pytestmark = pytest.mark.long

REFERENCE = f"acme/web/1#{ATTRIBUTE}"


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    person = Person(tmp_path / "writer")
    return write_flake(person, tmp_path / "flake", "", 'packages.x86_64-linux.a = run "a" "echo a > $out";')


def _commands(flake: Path, folder: Path) -> list[list[str]]:
    """Every verb that speaks with the hub."""
    return [
        ["status"],
        ["resolve", REFERENCE],
        ["fetch", REFERENCE, str(folder / "link")],
        ["apply", "nixos", REFERENCE],
        ["diff", REFERENCE],
        ["publish", str(flake), "--name", "acme/web", "--version", "9.0.0"],
        ["list", "releases", "acme/web"],
        ["list", "outputs", "acme/web/1"],
        ["project", "show", "acme/web"],
        ["search", "web"],
        ["org", "list"],
        ["token", "list", "--org", "acme"],
        ["yank", "acme/web/=1.0.0"],
    ]


def _check(person: Person, flake: Path, code: int, ref: str) -> None:
    for argv in _commands(flake, person.folder):
        done = person.piste(*argv, "--json")
        assert (done.code, done.problem["ref"]) == (code, ref), f"{argv}: {done.stderr}"
        assert done.problem["hint"], argv
        assert not (person.folder / "link").is_symlink()


def _changed(token: str) -> str:
    return token[:-1] + ("A" if token[-1] != "A" else "B")


@pytest.mark.parametrize("kind", ["of nobody", "mistyped", "no token at all", "revoked"])
def test_a_wrong_token_is_refused_with_a_way_on(
    release: Release, tmp_path: Path, flake: Path, kind: str
) -> None:
    tenant = release.tenant
    tokens = {
        "of nobody": "piste_user_" + "a" * 49,
        "mistyped": _changed(tenant.token),
        "no token at all": "hunter2",
    }
    token = tokens.get(kind) or _revoked(tenant.hub)
    person = Person(tmp_path / "person", hub=tenant.hub.url, token=token)
    _check(person, flake, 6, "credential-unknown")


def _revoked(hub: Hub) -> str:
    place = "/api/v1/organizations/acme/tokens"
    made = hub.as_admin("POST", place, json={"kind": "user", "description": "a short life"})
    hub.as_admin("DELETE", f"{place}/{made['id']}")
    token: str = made["token"]
    return token


def test_an_expired_token_is_told_apart(release: Release, tmp_path: Path, flake: Path) -> None:
    hub = release.tenant.hub
    token = hub.make_token("acme", expires_in=1)
    wait_for(lambda: hub.request("GET", "/api/v1/status", token=token).status == 401)
    person = Person(tmp_path / "person", hub=hub.url, token=token)
    _check(person, flake, 6, "credential-expired")


def test_a_token_of_another_organization_finds_nothing(release: Release, tmp_path: Path, flake: Path) -> None:
    hub = release.tenant.hub
    hub.as_admin("POST", "/api/v1/organizations", json={"name": "other"})
    person = Person(tmp_path / "person", hub=hub.url, token=hub.make_member("other", "somebody"))
    for argv in _commands(flake, person.folder):
        if argv[0] in ("status", "search", "org"):
            continue
        done = person.piste(*argv, "--json")
        assert (done.code, done.problem["ref"]) == (1, "not-found"), f"{argv}: {done.stderr}"


def test_a_token_is_never_shown(release: Release, tmp_path: Path, flake: Path) -> None:
    token = _changed(release.tenant.token)
    person = Person(tmp_path / "person", hub=release.tenant.hub.url, token=token, extra={"PISTE_DEBUG": "1"})
    for argv in _commands(flake, person.folder):
        done = person.piste(*argv)
        assert token not in done.stdout + done.stderr, argv
    assert token not in "\n".join(release.tenant.hub.lines)


def test_a_hub_that_is_down_is_told_with_a_way_on(tmp_path: Path, flake: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        person = Person(tmp_path / "person", hub=url, token="piste_user_" + "a" * 49)
        _check(person, flake, 4, "hub-unreachable")


@pytest.fixture
def stranger() -> Iterator[str]:
    """A web server that is no hub."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>Welcome</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_who_answers_and_is_no_hub_is_told(stranger: str, tmp_path: Path) -> None:
    person = Person(tmp_path / "person", hub=stranger, token="piste_user_" + "a" * 49)
    for argv in (["status"], ["resolve", REFERENCE], ["fetch", REFERENCE, str(person.folder / "link")]):
        done = person.piste(*argv, "--json")
        assert (done.code, done.problem["ref"]) == (1, "bad-answer")
        assert "hub" in done.problem["hint"]


@pytest.mark.parametrize(
    ("hub", "ref"),
    [
        ("ftp://hub.example", "bad-hub"),
        ("hub.example", "bad-hub"),
        ("http://hub.example", "insecure-hub"),
        ("https://me:secret@hub.example", "bad-hub"),
    ],
)
def test_an_address_that_no_token_is_sent_to_is_a_mistake_of_who_typed_it(
    tmp_path: Path, flake: Path, hub: str, ref: str
) -> None:
    person = Person(tmp_path / "person", hub=hub, token="piste_user_" + "a" * 49)
    for argv in _commands(flake, person.folder):
        done = person.piste(*argv, "--json")
        assert (done.code, done.problem["ref"]) == (2, ref), argv
        assert "secret" not in json.dumps(done.problem)
