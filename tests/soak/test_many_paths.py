"""Twenty thousand paths are fetched in little memory, and in time that grows with their number."""

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

MB = 1_000_000
# Of that 102 were seen: some 2.7 kB a path, beside 45 MB that every fetch takes.
LIMIT = 110 * MB
FEW, MANY = 5_000, 20_000

# Runs the command, and says at its end what it had in memory at most.
_MEASURED = """
import atexit, resource, sys
atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
from piste.cli.main import main
main()
"""


def _closure(paths: int) -> list[Member]:
    draw = random.Random(paths)
    made: list[Member] = []
    for number in range(paths - 1):
        below = [each.path for each in made[-3:]]
        made.append(member(f"part-{number}", (paths, number), draw.randbytes(400), below))
    return [*made, member("top", paths, b"", [each.path for each in made[-20:]])]


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        tenant = make_tenant(hub.start(), "acme", "web")
        for count in (FEW, MANY):
            with tenant.client() as client:
                publish(client, "acme", "web", f"{count}.0.0", _closure(count))
        yield tenant
    finally:
        hub.close()


def _fetch(acme: Tenant, folder: Path, count: int) -> tuple[float, int]:
    """Seconds of processor time, Nix's included, and the command's memory at most."""
    person = Person(folder, hub=acme.hub.url, token=acme.token)
    person.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(acme.key)}
    argv = ["fetch", f"acme/web/{count}#{ATTRIBUTE}", str(folder / "result"), "--json"]
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
    return seconds, int(done.stderr.split()[-1]) * 1024


@pytest.mark.soak
def test_twenty_thousand_paths_take_four_times_as_long_as_five_thousand(acme: Tenant, tmp_path: Path) -> None:
    few, _ = _fetch(acme, tmp_path / "few", FEW)
    many, peak = _fetch(acme, tmp_path / "many", MANY)
    assert peak < LIMIT
    assert many < 1.3 * MANY / FEW * few
