"""What was staged and not finished ends by itself; the look-ups that everything waits for stay look-ups."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from piste.hub.access.queries import project_by_name
from piste.hub.access.records import Actor, Project, Reach
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.keep import KeptNar
from piste.hub.db.base import Database
from piste.hub.errors import HubError
from piste.hub.publish import opening
from piste.hub.registry import queries as registry_queries
from piste.hub.services import Services
from piste.lib.clock import DAY, HOUR
from piste.wire.publication import OpenPublication
from tests.hub.conftest import RunWithServices


async def make_project(services: Services) -> Project:
    async with services.database.transaction() as connection:
        await connection.run("INSERT INTO organization (id, name, created_at) VALUES ('o', 'acme', 0)")
        await registry_queries.add_project(connection, "p", "o", "web", "private", 0)
    project = await project_by_name(services.database, "acme", "web")
    assert project is not None
    return project


def later(services: Services, microseconds: int) -> Services:
    now = services.clock()
    return replace(services, clock=lambda: now + microseconds)


def test_a_publication_ends_after_six_hours(with_services: RunWithServices[None]) -> None:
    async def work(services: Services) -> None:
        project = await make_project(services)
        opened, _ = await opening.open_publication(
            services, project, Actor(), OpenPublication("1.0.0", stage="s")
        )
        before, after = later(services, 5 * HOUR), later(services, 7 * HOUR)
        await opening.expire(before)
        assert (await opening.find_open(before, project, opened.id)).version == "1.0.0"
        with pytest.raises(HubError, match="expired"):
            await opening.find_open(after, project, opened.id)
        _, created = await opening.open_publication(
            after, project, Actor(), OpenPublication("1.0.1", stage="s")
        )
        assert created
        await opening.expire(after)
        with pytest.raises(HubError) as caught:
            await opening.find(after, project, opened.id)
        assert caught.value.ref == "not-found"

    with_services(work)


def test_a_pushed_nar_that_nobody_described_is_forgotten_after_a_day(
    with_services: RunWithServices[None],
) -> None:
    async def work(services: Services) -> None:
        project = await make_project(services)
        kept = KeptNar("sha256:x", 1, "sha256:y", 1)
        async with services.database.transaction() as connection:
            await cache_queries.add_nars(connection, [kept], services.clock())
            await cache_queries.add_pushed_nar(connection, project.id, "x.nar", kept, services.clock())
        await opening.expire(later(services, DAY // 2))
        assert await cache_queries.pushed_nar(services.database, project.id, "x.nar") is not None
        await opening.expire(later(services, DAY + HOUR))
        assert await cache_queries.pushed_nar(services.database, project.id, "x.nar") is None

    with_services(work)


class _Explaining:
    """Notes how the database would answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.plan = ""

    async def all(self, sql: str, *values: Any) -> list[Any]:
        rows = await self._database.all(f"EXPLAIN QUERY PLAN {sql}", *values)
        self.plan = "; ".join(row["detail"] for row in rows)
        return []

    async def one(self, sql: str, *values: Any) -> None:
        await self.all(sql, *values)

    scan = all


LOOK_UPS: dict[str, tuple[Callable[[Any], Awaitable[object]], str]] = {
    "resolution": (lambda d: registry_queries.highest_release(d, "p", b"a", b"b"), "release_resolution"),
    "an exact version": (lambda d: registry_queries.release_by_sort(d, "p", b"a"), "release_version"),
    "a narinfo": (lambda d: cache_queries.path_of_project(d, "p", "h"), "sqlite_autoindex_path_info_1"),
    "a narinfo at the root": (
        lambda d: cache_queries.paths_by_hash_part(d, "h", Reach()),
        "path_info_hash_part",
    ),
    "a NAR": (lambda d: cache_queries.paths_by_nar(d, "n", Reach()), "path_info_nar"),
    "paths of a manifest": (
        lambda d: cache_queries.paths_of_project(d, "p", ["h"]),
        "sqlite_autoindex_path_info_1 (project=? AND hash_part=?)",
    ),
    "a declaration": (
        lambda d: cache_queries.paths_of_organization(d, "o", ["h"]),
        "sqlite_autoindex_path_info_1 (project=? AND hash_part=?)",
    ),
}


@pytest.mark.parametrize("what", LOOK_UPS)
@pytest.mark.parametrize("engine", ["sqlite"])
def test_a_look_up_uses_its_index(with_services: RunWithServices[str], what: str) -> None:
    ask, index = LOOK_UPS[what]

    async def work(services: Services) -> str:
        explaining = _Explaining(services.database)
        await ask(explaining)
        return explaining.plan

    plan = with_services(work)
    assert index in plan
    assert "SCAN p" not in plan
    assert "SCAN release" not in plan
