"""A PostgreSQL that stops for a while: of a short one Nix notices nothing, a long one holds nobody up."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dialects.nix.conftest import with_nix
from tests.hub.postgres import Postgres, running_postgres
from tests.hub.process import Hub
from tests.running.command import Person, check
from tests.running.nix import build, configured, copy_from, copy_to, has
from tests.running.tenants import Tenant, make_tenant


@dataclass(frozen=True)
class Place:
    server: Postgres
    tenant: Tenant
    path: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("away")
    with running_postgres() as server:
        hub = Hub(folder / "hub", server.create())
        try:
            hub.start()
            tenant = make_tenant(hub, "acme", "web")
            person = Person(folder / "publisher")
            path = build(person, """app = run "app" "echo app > $out";""", "app")
            check(copy_to(configured(person, hub.url, tenant.token, []), tenant.cache_url, path))
            yield Place(server, tenant, path)
        finally:
            hub.close()


def reader(place: Place, folder: Path) -> Person:
    tenant = place.tenant
    return configured(with_nix(folder, "forky"), tenant.hub.url, tenant.token, [tenant.key])


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
