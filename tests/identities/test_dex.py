"""Another real issuer: dex, an OpenID provider in Go, whose identities are made for people who sign in."""

import base64
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, chain
from tests.identities.openid import ROOT, Certificate
from tests.identities.test_exchange import as_session, exchange, openings

SOURCE = Path(__file__).parent / "dex"
CALLBACK = "http://127.0.0.1:5555/callback"
_BUILD_SECONDS = 450  # it takes a minute of processor time, once

# To build it is what takes long, and slows whatever runs beside it.
pytestmark = [pytest.mark.timeout(600), pytest.mark.soak]


def build() -> tuple[Path, Path]:
    """dex and its pages, by Go from the lock; once. Skips where that can't be."""
    if shutil.which("go") is None:
        pytest.skip("no Go here, which dex is built with")
    lock = (SOURCE / "go.mod").read_bytes() + (SOURCE / "go.sum").read_bytes()
    folder = ROOT / ".cache" / f"dex-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "dex").exists():
            go("build", "-o", str(folder / "dex.new"), "github.com/dexidp/dex/cmd/dex")
            (folder / "dex.new").rename(folder / "dex")
    module = go("list", "-m", "-f", "{{.Dir}}", "github.com/dexidp/dex").strip()
    return folder / "dex", Path(module) / "web"


def go(*arguments: str) -> str:
    folder = ROOT / ".cache/go"
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(folder / "build"),
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOPATH": str(folder),
        "GOTOOLCHAIN": "local",
    }
    try:
        done = subprocess.run(
            ["go", *arguments],
            cwd=SOURCE,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"dex was not built within {_BUILD_SECONDS} seconds")
    if done.returncode != 0:
        pytest.skip(f"dex can't be built here: {done.stderr[-300:]}")
    return done.stdout


@dataclass
class Dex:
    """dex while it runs, with one who signs in and one client, `ci`. Its keys are new with each start."""

    folder: Path
    certificate: Certificate
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.port}"

    def start(self) -> "Dex":
        program, pages = build()
        config = {
            "issuer": self.issuer,
            "storage": {"type": "memory"},
            "web": {
                "https": f"127.0.0.1:{self.port}",
                "tlsCert": str(self.certificate.file),
                "tlsKey": str(self.certificate.key),
            },
            "frontend": {"dir": str(pages)},
            "oauth2": {"skipApprovalScreen": True},
            "expiry": {"idTokens": "5m"},
            "connectors": [{"type": "mockCallback", "id": "mock", "name": "mock"}],
            "staticClients": [{"id": "ci", "secret": "ci", "name": "ci", "redirectURIs": [CALLBACK]}],
        }
        file = self.folder / "dex.json"
        file.write_text(json.dumps(config))  # JSON is YAML
        log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen([str(program), "serve", str(file)], stdout=log, stderr=log)
        wait_for(self._answers, seconds=30)
        return self

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def mint(self) -> str:
        """The identity of whoever signs in, by the code flow that a browser would go through."""
        asked = {"client_id": "ci", "redirect_uri": CALLBACK, "response_type": "code", "state": "x"}
        address = f"/auth?{urlencode({**asked, 'scope': 'openid profile email'})}"
        for _ in range(6):
            status, location, body = self._ask("GET", address)
            assert status in (302, 303), body
            if location.startswith(CALLBACK):
                break
            parts = urlsplit(location)
            address = f"{parts.path}?{parts.query}"
        (code,) = parse_qs(urlsplit(location).query)["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        status, _, body = self._ask("POST", "/token", urlencode(form))
        assert status == 200, body
        token: str = json.loads(body)["id_token"]
        return token

    def _ask(self, method: str, address: str, form: str | None = None) -> tuple[int, str, bytes]:
        context = ssl.create_default_context(cafile=str(self.certificate.file))
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=context)
        headers = {"Authorization": "Basic " + base64.b64encode(b"ci:ci").decode()} if form else {}
        headers |= {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        try:
            connection.request(method, address, form, headers)
            response = connection.getresponse()
            return response.status, response.headers.get("Location", ""), response.read()
        finally:
            connection.close()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()
        try:
            return self._ask("GET", "/.well-known/openid-configuration")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def dex(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dex]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    made = Dex(tmp_path_factory.mktemp("dex"), certificate, port)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def acme(certificate: Certificate, tmp_path: Path) -> Iterator[Acme]:
    hub = Hub(tmp_path / "hub", options=("--allow-egress", "localhost"))
    try:
        yield Acme(hub.start())
    finally:
        hub.close()


def claims_of(identity: str) -> dict[str, object]:
    part = identity.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def test_an_identity_of_dex_publishes_by_exchange_and_directly_and_over_a_rotation_of_keys(
    acme: Acme, dex: Dex
) -> None:
    identity = dex.mint()
    subject = str(claims_of(identity)["sub"])
    place = f"/api/v1/organizations/{acme.organization}/trust"
    # Somebody else of the same issuer, and an identity that was made for somebody else: not these.
    for claims, audience in (({"sub": ["somebody else"]}, "ci"), ({"sub": [subject]}, "another")):
        rule = {"project": "web", "issuer": dex.issuer, "audience": audience, "claims": claims}
        acme.hub.as_admin("POST", place, json=rule)
        assert exchange(acme, identity).ref == "identity-not-trusted"
        assert openings(acme, identity).ref == "identity-not-trusted"
    rule = {"project": "web", "issuer": dex.issuer, "audience": "ci", "claims": {"sub": [subject]}}
    acme.hub.as_admin("POST", place, json=rule)
    session = exchange(acme, identity)
    assert session.status == 201, session.body
    assert as_session(acme, session.json()["token"]).publish("1.0.0", chain("one"))["created"]
    # It has no number, so it is known again by what was signed.
    assert exchange(acme, identity).ref == "identity-used"
    assert as_session(acme, identity).publish("1.1.0", chain("two"))["created"]

    dex.close()
    assert openings(acme, identity, "1.2.0").status == 201
    dex.start()
    later = dex.mint()
    assert later.split(".")[0] != identity.split(".")[0], "the key has another name"
    assert as_session(acme, later).publish("1.3.0", chain("three"))["created"]
