"""A large NAR goes from a publisher to a host through little memory. Nix's own processes are not counted."""

import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from piste.host.place import system_type
from tests.hub.process import Hub
from tests.running.command import ROOT, Finished, Person, check
from tests.running.nix import commit
from tests.running.tenants import make_tenant

MB = 1_000_000
HUB_LIMIT, COMMAND_LIMIT = 200 * MB, 100 * MB
ATTRIBUTE = f"packages.{system_type()}.large"

# Parts of 4 MiB, by turns of random bytes and of text that can be compressed.
_FLAKE = """{ outputs = { self }: {
  packages.SYSTEM.large = derivation {
    name = "large"; system = "SYSTEM";
    builder = "${builtins.path { name = "tools"; path = ./tools; }}/busybox";
    args = [ "sh" "-ec" ''
      B=${builtins.path { name = "tools"; path = ./tools; }}/busybox
      i=0
      while [ $i -lt PARTS ]; do
        $B dd if=/dev/urandom bs=65536 count=64
        $B yes "line $i of something that is said again and again" | $B head -c 4194304
        i=$((i + 1))
      done > $out
    '' ];
  };
}; }
"""

# Runs the command in this very process, and writes down at its end what it had in memory at most.
_MEASURED = """
import pathlib, sys
from piste.cli.main import run
code = run(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(pathlib.Path("/proc/self/status").read_text())
sys.exit(code)
"""


def peak(status: str) -> int:
    """The most that a process had in memory, in bytes, from its /proc/PID/status."""
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def peak_of(hub: Hub) -> int:
    return peak(Path(f"/proc/{hub.pid}/status").read_text())


def _measured(person: Person, *arguments: str) -> tuple[Finished, int, float]:
    """Run the command; what came of it, its peak of memory and its time."""
    place = person.folder / "status"
    started = time.monotonic()
    argv = [sys.executable, "-c", _MEASURED, str(place), *arguments]
    done = person.run(*argv, timeout=1500)
    assert done.code == 0, done.stderr
    return done, peak(place.read_text()), time.monotonic() - started


def _large_flake(person: Person, size: int) -> Path:
    folder = person.folder / "flake"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / ".cache/nix/bin/busybox", folder / "tools/busybox")
    parts = str(size // (8 << 20))
    (folder / "flake.nix").write_text(_FLAKE.replace("SYSTEM", system_type()).replace("PARTS", parts))
    check(person.run("git", "init", "-q", "-b", "main", cwd=folder))
    commit(person, folder, "Something large")
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub")
    try:
        yield made.start()
    finally:
        made.close()


def _there_and_back(hub: Hub, folder: Path, size: int) -> None:
    tenant = make_tenant(hub, "acme", "web")
    publisher = Person(folder / "publisher", hub=hub.url, token=tenant.token)
    flake = _large_flake(publisher, size)
    argv = ["publish", str(flake), "--name", tenant.name, "--version", "1.0.0", "--json"]
    published, publish_peak, publish_time = _measured(publisher, *argv)
    path = published.json["outputs"][ATTRIBUTE]
    hub_after_publish = peak_of(hub)
    host = Person(folder / "host", hub=hub.url, token=tenant.resolve_only("1", ATTRIBUTE))
    host.succeed("login", "--trusted-key", str(tenant.key))
    link = str(folder / "link")
    fetched, fetch_peak, fetch_time = _measured(host, "fetch", f"{tenant.name}/1#{ATTRIBUTE}", link, "--json")
    hub_peak = peak_of(hub)
    sys.stdout.write(
        f"{size // MB} MB: publish {publish_time:.1f} s, {publish_peak // MB} MB; "
        f"fetch {fetch_time:.1f} s, {fetch_peak // MB} MB; "
        f"hub {hub_after_publish // MB} MB after the publication, {hub_peak // MB} MB after the fetch; "
        f"{published.json['seconds']} {fetched.json['seconds']}\n"
    )
    assert fetched.json["store_path"] == path
    assert (host.root / path.lstrip("/")).stat().st_size == size // (8 << 20) * (8 << 20)
    check(host.run("nix-store", "--verify-path", path))
    assert hub_peak < HUB_LIMIT
    assert publish_peak < COMMAND_LIMIT
    assert fetch_peak < COMMAND_LIMIT


def test_three_hundred_megabytes_pass_through_little_memory(hub: Hub, tmp_path: Path) -> None:
    _there_and_back(hub, tmp_path, 300 * MB)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_gigabytes_pass_through_little_memory(hub: Hub, tmp_path: Path) -> None:
    _there_and_back(hub, tmp_path, 2_100 * MB)
