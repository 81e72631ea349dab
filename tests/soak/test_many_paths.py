"""Very many paths are fetched in little memory, whatever was fetched before, and in time that grows with
their number."""

import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, member, publish
from tests.running.command import Person, check
from tests.running.tenants import Tenant, make_tenant
from tests.soak.test_large import MB, peak

LIMIT = 100 * MB
FEW, MANY = 5_000, 20_000
RELEASES, CHANGED = 7, 200  # of the few, one after another, and how many paths are new in each

# Runs the command, and says at its end what it had in memory at most. What getrusage says of that will not
# do: a child begins with what its parent had.
_MEASURED = """
import pathlib, sys
from piste.cli.main import run
code = run(sys.argv[1:])
sys.stderr.write(pathlib.Path("/proc/self/status").read_text())
sys.exit(code)
"""


def _closure(paths: int, release: int = 0) -> list[Member]:
    draw = random.Random(paths)
    made: list[Member] = []
    for number in range(paths - 1):
        below = [each.path for each in made[-3:]]
        seed = (paths, number, release if number >= paths - CHANGED else 0)
        made.append(member(f"part-{number}", seed, draw.randbytes(400), below))
    return [*made, member("top", (paths, release), b"", [each.path for each in made[-20:]])]


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        tenant = make_tenant(hub.start(), "acme", "web")
        for count, releases in ((FEW, RELEASES), (MANY, 1)):
            for release in range(releases):
                with tenant.client() as client:
                    publish(client, "acme", "web", f"{count}.0.{release}", _closure(count, release))
        yield tenant
    finally:
        hub.close()


def _host(acme: Tenant, folder: Path) -> Person:
    person = Person(folder, hub=acme.hub.url, token=acme.token)
    person.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(acme.key)}
    return person


def _fetch(person: Person, version: str, count: int) -> tuple[float, int]:
    """Seconds of processor time, Nix's included, and the command's memory at most."""
    argv = ["fetch", f"acme/web/{version}#{ATTRIBUTE}", str(person.folder / "result"), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *argv],
        env=person.environment | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(done.stdout)["paths_fetched"] == count
    check(person.run("nix-store", "--check-validity", json.loads(done.stdout)["store_path"]))
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, peak(done.stderr)


@pytest.mark.soak
def test_twenty_thousand_paths_take_four_times_as_long_as_five_thousand(acme: Tenant, tmp_path: Path) -> None:
    few, _ = _fetch(_host(acme, tmp_path / "few"), f"={FEW}.0.0", FEW)
    many, most = _fetch(_host(acme, tmp_path / "many"), f"={MANY}.0.0", MANY)
    sys.stdout.write(f"{MANY} paths: {many:.2f} s of processor time, {most / MB:.1f} MB\n")
    assert most < LIMIT
    assert many < 1.3 * MANY / FEW * few


@pytest.mark.soak
def test_a_release_takes_as_much_memory_whether_one_or_six_are_remembered(
    acme: Tenant, tmp_path: Path
) -> None:
    person = _host(acme, tmp_path)
    _fetch(person, f"={FEW}.0.0", FEW)
    memory = [_fetch(person, f"={FEW}.0.{release}", CHANGED)[1] / MB for release in range(1, RELEASES)]
    sys.stdout.write(
        f"{FEW} paths, one release after another: {', '.join(f'{each:.1f}' for each in memory)} MB\n"
    )
    assert memory[-1] < memory[0] + 4  # each manifest takes 2
