"""A fetch that outlives its tokens goes on with the very release that it began with, as long as it may."""

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest

from piste.wire.releases import Yank
from tests.attacks.liar import Liar, running_liar
from tests.host.test_update_by_deltas import REBUILT, closure_of
from tests.hub.process import Hub, wait_for
from tests.running.altered import altered
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.command import Finished, Person, check
from tests.running.tenants import Tenant, client_of, make_tenant

# Tokens that last two seconds, and plans that tell of eight paths.
_HUB = """
import piste.hub.access.closure_token as token
token.LIFETIME_SECONDS = 2
import piste.hub.plan.planning as planning
planning.PAGE = 8
"""
# A host that asks for sixteen sources and eight small NARs at a time, and for larger ones in parts.
_HOST = """
import piste.client.planning as planning
import piste.host.bundles as bundles
planning._PLACES = 16
bundles._COUNT = 8
bundles._WHOLE, bundles._PART = 300_000, 200_000
"""
_OUTLIVED = 2.2
_KINDS = {
    "sources": re.compile(r"/sources\?places="),
    "bundles": re.compile(r"/nars\?places="),
    "deltas": re.compile(r"/deltas/"),
    "parts": re.compile(r"/cache/acme/web/nar/"),
}
# Pages of sources are asked for one after another, all else side by side.
_HELD = {"sources": (2, 4), "bundles": (2,), "deltas": (1,), "parts": (2,)}


@dataclass
class SlowLine:
    """Holds up a request or two of each kind until its token has expired."""

    seen: Counter[str] = field(default_factory=Counter)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_on(self, path: str) -> str:
        for kind, pattern in _KINDS.items():
            if pattern.search(path):
                with self._lock:
                    self.seen[kind] += 1
                    held = self.seen[kind] in _HELD[kind]
                    due = self.meanwhile.pop() if held and self.meanwhile else None
                if due is not None:
                    due()
                if held:
                    threading.Event().wait(_OUTLIVED)
        return path


@dataclass
class World:
    """A hub with two releases, of which hosts have the first, behind a proxy."""

    tenant: Tenant
    second: list[Member]
    proxy: Liar

    @property
    def hub(self) -> Hub:
        return self.tenant.hub

    def host(self, folder: Path, token: str) -> Person:
        """A host that has the first release, on a line that deltas are worth it on."""
        self.proxy.honest()
        person = Person(folder, hub=self.proxy.url, token=token)
        person.extra = {
            "PISTE_TRUSTED_PUBLIC_KEYS": str(self.tenant.key),
            **altered(folder / "altered", _HOST),
        }
        person.succeed("fetch", f"acme/web/=1.0.0#{ATTRIBUTE}", str(folder / "first"))
        self.proxy.honest()
        return person

    def fetch(self, person: Person, requirement: str) -> Finished:
        return person.piste(
            "fetch", f"acme/web/{requirement}#{ATTRIBUTE}", str(person.folder / "result"), "--json"
        )

    def resolutions(self) -> list[str]:
        """Requirements that were resolved by themselves, for a token alone."""
        found = (re.search(r"/resolve/([^/]+)/", path) for path in self.proxy.asked)
        return [unquote(each[1]) for each in found if each is not None]


def _make_world(hub: Hub, proxy: Liar) -> World:
    tenant = make_tenant(hub, "acme", "web")
    # What has no older one, so that it comes whole: two larger paths, and forty small ones.
    draw = random.Random(5)
    whole = [member(name, name, draw.randbytes(1_500_000)) for name in ("firmware", "manual")]
    whole += [member(f"fresh{number}", number, f"{number}\n".encode() * 500) for number in range(40)]
    second = [*whole, *closure_of(2, [each.path for each in whole])]
    with tenant.client() as client:
        publish(client, "acme", "web", "1.0.0", closure_of(1))
        publish(client, "acme", "web", "1.1.0", second)
    wait_for(lambda: hub.log_lines("deltas-made"), 60)
    return World(tenant, second, proxy)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One whose tokens last two seconds."""
    folder = tmp_path_factory.mktemp("short-lived")
    environment = altered(folder / "altered", _HUB)
    prefix = ("env", *(f"{name}={value}" for name, value in environment.items()))
    # Requests with a token that has expired are many, and none of them is a guess at one.
    hub = Hub(folder / "data", options=("--failed-credentials", "2"), prefix=prefix)
    try:
        with running_liar(hub.start().url) as proxy:
            yield _make_world(hub, proxy)
    finally:
        hub.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[World]:
    """One whose tokens last their hour, unless somebody ends them."""
    hub = Hub(tmp_path / "hub")
    try:
        with running_liar(hub.start().url) as proxy:
            yield _make_world(hub, proxy)
    finally:
        hub.close()


@pytest.mark.parametrize("bound", [True, False], ids=["resolve-only", "member"])
def test_each_kind_of_request_outlives_its_token_and_the_release_stays_the_same(
    world: World, tmp_path: Path, bound: bool
) -> None:
    token = world.tenant.resolve_only("1", ATTRIBUTE) if bound else world.tenant.token
    person = world.host(tmp_path, token)
    line, newer = SlowLine(), f"1.2.{int(bound)}"

    def publish_another() -> None:
        # What the requirement means from now on.
        with world.tenant.client() as client:
            publish(client, "acme", "web", newer, make_closure(30 + bound, paths=2, size=1000))

    line.meanwhile.append(publish_another)
    world.proxy.detour = line.pass_on
    before = len(world.hub.log_lines("request"))
    done = world.fetch(person, "1")
    with client_of(world.hub, world.hub.admin) as client:
        client.yank("acme", "web", newer, Yank())
    assert done.code == 0, done.stderr
    held = check(person.run("nix-store", "-qR", str(world.second[-1].path))).split()
    assert set(held) == {str(each.path) for each in world.second}
    check(person.run("nix-store", "--verify", "--check-contents"))
    refused = {
        line["route"].rpartition("/")[2] if "deltas" not in line["route"] else "deltas"
        for line in world.hub.log_lines("request")[before:]
        if line["ref"] == "credential-expired"
    }
    assert refused >= {"sources", "nars", "deltas", "{file}"}, (refused, line.seen)
    assert set(world.resolutions()) == {"=1.1.0"}
    assert len(world.resolutions()) >= 3
    # The plan told of eight of 104 paths; the rest came in pages of sixteen.
    assert line.seen["sources"] >= 6
    # The delta was not given up for that.
    assert done.json["bytes_received"] < 5_000_000 + REBUILT * 10_000


def test_where_nix_fetches_by_itself_its_token_is_renewed_as_well(world: World, tmp_path: Path) -> None:
    person = world.host(tmp_path, world.tenant.resolve_only("1", ATTRIBUTE))
    held = threading.Lock()

    def hold(path: str) -> str:
        # One NAR, in the middle of those that Nix asks for.
        if (
            "/nar/" in path
            and sum("/nar/" in each for each in world.proxy.asked) > 20
            and held.acquire(False)
        ):
            threading.Event().wait(_OUTLIVED)
        return path

    world.proxy.detour = hold
    world.proxy.lie = lambda path, body: b"[]" if "/plan/" in path or path.endswith("/sources") else body
    done = world.fetch(person, "1")
    assert done.code == 0, done.stderr
    assert "Nix fetches the closure by itself" in done.stderr
    there = check(person.run("nix-store", "-qR", str(world.second[-1].path))).split()
    assert set(there) == {str(each.path) for each in world.second}
    assert set(world.resolutions()) == {"1", "=1.1.0"}


@pytest.mark.parametrize("end", ["revoked", "yanked for security"])
def test_a_fetch_that_may_not_go_on_says_why_and_ends(patient: World, tmp_path: Path, end: str) -> None:
    world, token = patient, patient.tenant.resolve_only("1", ATTRIBUTE)
    person = world.host(tmp_path, token)
    line = SlowLine()

    def end_it() -> None:
        with client_of(world.hub, world.hub.admin) as client:
            if end == "revoked":
                (made,) = [one for one in client.tokens("acme") if one.kind == "resolve-only"]
                client.revoke_token("acme", made.id)
            else:
                client.yank("acme", "web", "1.1.0", Yank("a hole", security=True))

    line.meanwhile.append(end_it)
    world.proxy.detour = line.pass_on
    done = world.fetch(person, "1")
    assert done.code == 6, done.stderr
    assert done.problem["ref"] == ("credential-unknown" if end == "revoked" else "release-yanked")
    if end != "revoked":
        assert "a hole" in done.problem["message"]
    # Whoever may not have another token is told so once.
    assert len(world.resolutions()) == 1
    assert not (tmp_path / "result").is_symlink()
