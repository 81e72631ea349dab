"""Faults that are real: a PostgreSQL that stops for a while, files that are damaged on the disk.

Nothing of the hub is replaced here. Of a short fault Nix notices nothing, a long one holds nobody up, and
what is damaged sends it to the second cache.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dialects.nix.conftest import VERSIONS, with_nix
from tests.hub.postgres import Postgres, running_postgres
from tests.hub.process import Hub
from tests.running.command import Person, check
from tests.running.nix import build, configured, copy_from, copy_to, has
from tests.running.tenants import Tenant, make_tenant

LONG = """app = run "app" "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done > $out";"""


@dataclass(frozen=True)
class Place:
    server: Postgres
    tenant: Tenant
    path: str
    second: str  # the address of another cache that has the path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("away")
    with running_postgres() as server:
        hub = Hub(folder / "hub", server.create())
        try:
            hub.start()
            tenant = make_tenant(hub, "acme", "web")
            person = Person(folder / "publisher")
            path = build(
                person,
                """app = run "app" "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done > $out";""",
                "app",
            )
            second = f"file://{folder}/second"
            check(person.run("nix", "copy", "--to", second, path))
            check(copy_to(configured(person, hub.url, tenant.token, []), tenant.cache_url, path))
            yield Place(server, tenant, path, second)
        finally:
            hub.close()


def reader(place: Place, folder: Path, version: str = "forky") -> Person:
    tenant = place.tenant
    return configured(with_nix(folder, version), tenant.hub.url, tenant.token, [tenant.key])


def test_a_database_that_starts_anew_is_waited_for(place: Place, tmp_path: Path) -> None:
    host = reader(place, tmp_path)
    name = f"{place.tenant.cache_path}/{place.path[11:43]}.narinfo"
    place.server.stop()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(place.tenant.hub.request, "GET", name, token=place.tenant.token)
        with pytest.raises(TimeoutError):
            asked.result(1)
        # By this thread: what a thread has started ends with it, so that nothing outlives the tests.
        place.server.start()
        assert asked.result(20).status == 200
    check(copy_from(host, place.tenant.cache_url, place.path))
    assert has(host, place.path)


def test_a_database_that_stays_away_holds_up_the_first_look_up_and_no_further_one(place: Place) -> None:
    def look_up(number: int) -> float:
        """How long the answer to a look-up takes that nobody has made before."""
        began = time.monotonic()
        name = f"{place.tenant.cache_path}/{str(number).rjust(32, '0')}.narinfo"
        assert place.tenant.hub.request("GET", name, token=place.tenant.token).status == 404
        return time.monotonic() - began

    assert look_up(1) < 5
    place.server.stop()
    try:
        assert look_up(2) > 5
        assert sum(map(look_up, range(3, 13))) < 5
    finally:
        place.server.start()
    assert look_up(13) < 5


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_that_is_damaged_sends_nix_to_the_second_cache(
    place: Place, tmp_path: Path, version: str, damage: str
) -> None:
    (file,) = (place.tenant.hub.data / "objects/nar").rglob("*.nar.zst")
    whole = file.read_bytes()
    half = len(whole) // 2
    hub = f"{place.tenant.cache_url}?priority=1"
    host = reader(place, tmp_path, version)
    unsigned = {"NIX_CONFIG": host.extra["NIX_CONFIG"] + "\nrequire-sigs = false"}  # as the second cache is
    file.unlink()
    try:
        if damage != "gone":
            file.write_bytes(whole[:half] if damage == "cut" else whole[:half] + bytes(9) + whole[half + 9 :])
        alone, both = (
            host.run("nix-store", "--realise", place.path, "--option", "substituters", caches, extra=unsigned)
            for caches in (hub, f"{hub} {place.second}?priority=50")
        )
    finally:
        file.write_bytes(whole)
    assert alone.code != 0
    assert both.code == 0, both.stderr
    assert f"from '{place.second}" in both.stderr
