"""What an organization leaves to an upstream comes from there, side by side with what the hub has; a fetch
says what is wrong where it does not.
"""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from piste.lib.zstd import zstd
from piste.nix.hashes import sha256_of
from piste.nix.narinfo import NarInfo, PathInfo, format_narinfo
from piste.nix.signature import SecretKey
from piste.wire.organizations import NewUpstream
from piste.wire.publication import Declaration, DeclaredOutput
from tests.host.test_supply import Handler, Origin, QuietServer
from tests.hub.process import Hub
from tests.running.altered import altered
from tests.running.closures import ATTRIBUTE, Member, Publishing, make_closure, make_source, member
from tests.running.command import Finished, Person, check
from tests.running.tenants import Tenant, client_of, make_tenant

# Large NARs in parts of 300 kB, and no half minute for an upstream that is down.
_HOST = """
import piste.host.bundles as bundles
bundles._WHOLE, bundles._PART = 400_000, 300_000
import piste.host.supply as supply
from piste.lib.retry import Backoff
supply._BACKOFF = Backoff(attempts=3, first=0.01)
"""
FILE = "nar/common.nar.zst"


class Upstream:
    """A file server on loopback that can be taken away and comes back at the same port."""

    def __init__(self) -> None:
        self.origin = Origin()
        self._server: QuietServer | None = None
        self._port = 0
        self.start()

    def start(self) -> None:
        handler = type("UpstreamHandler", (Handler,), {"origin": self.origin})
        self._server = QuietServer(("127.0.0.1", self._port), handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"


@dataclass
class World:
    """A release of which one path is left to an upstream."""

    tenant: Tenant
    key: SecretKey
    upstream: Upstream
    closure: list[Member]
    file: bytes

    def fetch(self, folder: Path) -> Finished:
        person = Person(folder, hub=self.tenant.hub.url, token=self.tenant.token)
        person.extra = {
            "PISTE_TRUSTED_PUBLIC_KEYS": f"{self.tenant.key} {self.key.public}",
            **altered(folder / "altered", _HOST),
        }
        done = person.piste("fetch", f"acme/web/1#{ATTRIBUTE}", str(folder / "result"), "--json")
        if done.code == 0:
            held = check(person.run("nix-store", "-qR", str(self.closure[-1].path))).split()
            assert set(held) == {str(each.path) for each in self.closure}
        return done


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    hub, upstream = Hub(tmp_path_factory.mktemp("hub")), Upstream()
    try:
        tenant, key = make_tenant(hub.start(), "acme", "web"), SecretKey.generate("upstream-1")
        common = member("common", "common", random.Random(1).randbytes(2_000_000))
        file = zstd.compress(common.nar)
        upstream.origin.files[FILE] = file
        own = make_closure(2, paths=30, size=50_000)
        closure = [*own[:20], common, *own[20:]]
        closure.append(member("top", "top", b"", [own[-1].path, common.path]))
        with client_of(hub, hub.admin) as client:
            client.add_upstream("acme", NewUpstream(upstream.url, [str(key.public)]))
        _publish(tenant, closure, common, _narinfo(common, key, file), upstream.url)
        yield World(tenant, key, upstream, closure, file)
    finally:
        upstream.stop()
        hub.close()


def _narinfo(path: Member, key: SecretKey, file: bytes) -> str:
    info = PathInfo(path.path, path.nar_hash, len(path.nar), path.references)
    signed = info.with_signatures([key.sign(info.fingerprint())])
    return format_narinfo(NarInfo(signed, FILE, "zstd", sha256_of(file), len(file)))


def _publish(tenant: Tenant, closure: list[Member], pinned: Member, narinfo: str, url: str) -> None:
    with tenant.client() as client:
        publishing = Publishing(client, "acme", "web", "1.0.0")
        told = msgspec.structs.replace(pinned.declared, upstream=url, upstream_narinfo=narinfo)
        paths = [told if each is pinned else each.declared for each in closure]
        outputs = [DeclaredOutput(ATTRIBUTE, str(closure[-1].path))]
        missing = client.declare(publishing.publication, Declaration(paths, outputs)).missing
        assert pinned.path.base_name not in missing
        publishing.upload(b"".join(each.frame for each in closure if each is not pinned))
        publishing.source(make_source("1.0.0"))
        publishing.finish()


@pytest.fixture(autouse=True)
def _as_at_first(world: World) -> Iterator[None]:
    world.upstream.origin.asked.clear()
    yield
    world.upstream.origin.files[FILE] = world.file


def test_it_comes_in_parts_and_goes_on_where_a_connection_broke(world: World, tmp_path: Path) -> None:
    origin = world.upstream.origin
    origin.cut_after[FILE] = 100_000
    sent = origin.sent
    done = world.fetch(tmp_path)
    assert done.code == 0, done.stderr
    assert origin.sent - sent == len(world.file)
    starts = {int(asked.rpartition("@")[2]) for asked in origin.asked}
    assert starts >= {0, 300_000, 600_000, 1_800_000}
    assert any(start % 300_000 == 100_000 for start in starts)


def test_an_upstream_that_is_down_is_named_and_nothing_comes_twice(world: World, tmp_path: Path) -> None:
    world.upstream.stop()
    try:
        done = world.fetch(tmp_path)
    finally:
        world.upstream.start()
    assert (done.code, done.problem["ref"]) == (4, "upstream-unreachable")
    assert world.upstream.url.removeprefix("http://") in done.problem["message"]
    assert "PISTE_HUB" not in done.stderr
    again = world.fetch(tmp_path)
    assert again.code == 0, again.stderr
    # All else came the first time.
    assert again.json["bytes_received"] <= len(world.file) + 1000


def test_an_upstream_that_has_lost_it_is_named(world: World, tmp_path: Path) -> None:
    del world.upstream.origin.files[FILE]
    done = world.fetch(tmp_path)
    assert (done.code, done.problem["ref"]) == (1, "upstream-refused")
    assert "404" in done.problem["message"]
