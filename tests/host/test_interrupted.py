"""A fetch that is cut goes on where it was: after connections, the command itself, or the hub were killed."""

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.process import Hub
from tests.running.altered import altered
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.command import PISTE, Person, check
from tests.running.cutting import CutLine, cut_line
from tests.running.tenants import Tenant, make_tenant

SPEED = 16e6  # bytes a second: slow enough to be cut ten times, fast enough for a test
REFERENCE = f"acme/web/1#{ATTRIBUTE}"
# A closure token that lasts two seconds.
_SHORT_LIVED = "import piste.hub.access.closure_token as token\ntoken.LIFETIME_SECONDS = 2\n"
# A host whose spool holds four megabytes: a sixth of the largest NAR.
_SMALL_SPOOL = """
import piste.host.bundles as bundles
bundles._WHOLE, bundles._PART = 1_500_000, 1_000_000
import piste.host.spool as spool
spool.ROOM = 4_000_000
import piste.host.supply as supply
supply._LAG = 500_000
"""


@dataclass
class Published:
    """A hub behind a line that can be cut, with a release."""

    hub: Hub
    tenant: Tenant
    closure: list[Member]
    line: CutLine

    def host(self, folder: Path) -> Person:
        """A machine with nothing, which reaches the hub through the line."""
        person = Person(folder, hub=self.line.url, token=self.tenant.token)
        person.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(self.tenant.key)}
        person.extra = {**person.extra, "NIX_CONFIG": f"trusted-public-keys = {self.tenant.key}"}
        return person

    def check(self, person: Person) -> None:
        """The whole closure is there, as it was published."""
        top = str(self.closure[-1].path)
        assert (person.folder / "result").is_symlink()
        held = check(person.run("nix-store", "-qR", top)).split()
        assert set(held) == {str(each.path) for each in self.closure}
        check(person.run("nix-store", "--verify", "--check-contents"))


def _closure() -> list[Member]:
    """Two hundred small paths, a few of some megabytes, and one that is fetched in parts."""
    draw = random.Random(3)
    small = make_closure(1, paths=200, size=200_000)
    sizes = (1_000_000, 3_000_000, 26_000_000, 2_000_000)
    large = [member(f"large-{size}", size, draw.randbytes(size), [small[50].path]) for size in sizes]
    top = member("top", "top", b"", [each.path for each in (*small[-5:], *large)])
    return [*small[:100], *large, *small[100:], top]


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("hub")
    prefix: tuple[str, ...] = ()
    if getattr(request, "param", None) == "short-lived":
        (folder / "sitecustomize.py").write_text(_SHORT_LIVED)
        prefix = ("env", f"PYTHONPATH={folder}")
    hub = Hub(folder / "data", prefix=prefix)
    try:
        hub.start()
        with cut_line(int(hub.listen.rpartition(":")[2]), SPEED) as line:
            hub.stop()
            # Tells clients the address of the line as its own.
            hub.options = ("--public-url", line.url)
            hub.start()
            tenant, closure = make_tenant(hub, "acme", "web"), _closure()
            with tenant.client() as client:
                publish(client, "acme", "web", "1.0.0", closure)
            yield Published(hub, tenant, closure, line)
    finally:
        hub.close()


def _run(person: Person) -> "subprocess.Popen[bytes]":
    argv = [str(PISTE), "fetch", REFERENCE, str(person.folder / "result"), "--json"]
    return subprocess.Popen(
        argv, env=person.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


class Interruptions:
    """What happens to a fetch on its way."""

    def __init__(self, published: Published) -> None:
        self._published = published
        self.process: subprocess.Popen[bytes] | None = None
        self.killed = threading.Event()
        self.happened: list[str] = []
        self._hub_runs = threading.Event()
        self._hub_runs.set()

    def connections(self) -> None:
        self.happened.append("connections")
        self._published.line.cut()

    def command(self) -> None:
        self.happened.append("command")
        if self.process is not None:
            self.killed.set()
            os.kill(self.process.pid, signal.SIGKILL)

    def hub(self) -> None:
        self.wait_for_hub()
        self._hub_runs.clear()
        self.happened.append("hub")
        try:
            self._published.hub.kill()
            self._published.hub.start()
        finally:
            self._hub_runs.set()

    def wait_for_hub(self) -> None:
        self._hub_runs.wait()

    def schedule(self, total: int, seed: int) -> None:
        """Ten of them, anywhere on the way."""
        draw = random.Random(seed)
        kinds = [*[self.connections] * 4, *[self.command] * 4, *[self.hub] * 2]
        draw.shuffle(kinds)
        points = sorted(draw.randint(total // 50, total * 49 // 50) for _ in kinds)
        self._published.line.at = list(zip(points, kinds, strict=True))


def test_a_fetch_that_is_cut_at_ten_points_ends_right_and_gets_little_twice(
    published: Published, tmp_path: Path
) -> None:
    line, person = published.line, published.host(tmp_path / "undisturbed")
    before = line.passed
    person.succeed("fetch", REFERENCE, str(person.folder / "result"))
    total = line.passed - before
    published.check(person)
    person = published.host(tmp_path / "host")
    interruptions = Interruptions(published)
    line.passed = 0
    interruptions.schedule(total, seed=random.SystemRandom().randrange(1000))
    while True:
        interruptions.killed.clear()
        interruptions.process = process = _run(person)
        _, said = process.communicate(timeout=120)
        # Also after success: what had come before the hub was killed can have been enough.
        interruptions.wait_for_hub()
        if process.returncode == 0:
            break
        # A command that begins while there is no hub says so, and is given again once there is one.
        without_hub = "hub" in interruptions.happened and b"hub-unreachable" in said
        assert interruptions.killed.is_set() or without_hub, said.decode()
    assert len(interruptions.happened) == 10
    published.check(person)
    assert line.passed < 1.1 * total, f"{line.passed} instead of {total}: {interruptions.happened}"
    assert [path.name for path in (person.root / "var/cache/piste/fetch").iterdir()] == ["lock"]


def test_a_nar_that_is_larger_than_the_spool_goes_on_where_it_was(
    published: Published, tmp_path: Path
) -> None:
    line, person = published.line, published.host(tmp_path / "undisturbed")
    small = altered(tmp_path / "altered", _SMALL_SPOOL)
    person.extra = {**person.extra, **small}
    before = line.passed
    person.succeed("fetch", REFERENCE, str(person.folder / "result"))
    total = line.passed - before
    person = published.host(tmp_path / "host")
    person.extra = {**person.extra, **small}
    interruptions = Interruptions(published)
    line.passed = 0
    line.at = [(total * part // 100, interruptions.command) for part in (30, 45, 60, 75, 90)]
    while True:
        interruptions.process = process = _run(person)
        _, said = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said.decode()
    assert len(interruptions.happened) == 5
    published.check(person)
    assert line.passed < 1.1 * total, f"{line.passed} instead of {total}"
    assert [path.name for path in (person.root / "var/cache/piste/fetch").iterdir()] == ["lock"]


@pytest.mark.parametrize("published", ["short-lived"], indirect=True)
def test_a_fetch_that_takes_longer_than_its_token_lasts_ends_right(
    published: Published, tmp_path: Path
) -> None:
    person = published.host(tmp_path / "host")
    published.line.speed, published.line.passed = 6e6, 0
    # Whoever has begun to get an answer gets the rest of it; those that are cut have to ask again.
    published.line.at = [(step * 5_000_000, published.line.cut) for step in range(1, 8)]
    done = person.succeed("fetch", REFERENCE, str(person.folder / "result"), "--json")
    assert done.json["seconds"]["fetch"] > 4, "the token did not expire on the way"
    assert any(line["ref"] == "credential-expired" for line in published.hub.log_lines("request"))
    published.check(person)


def test_a_garbage_collection_in_the_middle_loses_nothing(published: Published, tmp_path: Path) -> None:
    person = published.host(tmp_path / "host")
    collected: list[str] = []

    def collect() -> None:
        collected.append(check(person.run("nix-store", "--gc")))

    total = sum(len(each.nar) for each in published.closure)
    # A part of it is there already, and nothing but the fetch under way keeps it.
    published.line.at = [(total // 4, lambda: os.kill(process.pid, signal.SIGKILL))]
    process = _run(person)
    process.communicate(timeout=60)
    published.line.passed = 0
    published.line.at = [(total // 8 * step, collect) for step in (1, 2, 3)]
    done = person.succeed("fetch", REFERENCE, str(person.folder / "result"), "--json")
    assert collected
    assert 0 < done.json["paths_fetched"] < len(published.closure)
    published.check(person)
