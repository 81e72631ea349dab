"""What is staged and not published ends by itself: the address after minutes, the rest after hours."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from piste.hub.access.queries import organization_by_name, project_by_name
from piste.hub.access.records import Actor, Kind, Organization
from piste.hub.app import build
from piste.hub.errors import HubError
from piste.hub.publish import rules, staging
from piste.hub.publish.opening import expire
from piste.hub.publish.records import Announced
from piste.hub.services import Services
from piste.hub.settings import make_settings
from piste.lib.clock import wall_clock
from piste.wire.publication import OpenPublication
from tests.hub.postgres import Postgres

SUPERUSER = Actor(kind=Kind.USER, superuser=True)


class MovingClock:
    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


Run = Callable[[Callable[[Services, MovingClock], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    database = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.create()
    settings = make_settings(tmp_path / "data", listen="127.0.0.1:1", database=database)

    def run(work: Callable[[Services, MovingClock], Coroutine[Any, Any, None]]) -> None:
        async def inner() -> None:
            clock = MovingClock()
            async with AsyncExitStack() as stack:
                await work(await build(settings, stack, clock), clock)

        asyncio.run(inner())

    return run


async def organization(services: Services) -> Organization:
    async with services.database.transaction() as connection:
        await connection.run("INSERT INTO organization (id, name, created_at) VALUES ('o', 'acme', 1)")
        await services.keyring.add_key(connection, "o", "acme")
        await connection.run(
            """INSERT INTO trust_rule (id, organization, project_name, issuer, audience, claims, created_at)
               VALUES ('t', 'o', 'Web', 'https://ci', 'hub', '{}', 1)"""
        )
    found = await organization_by_name(services.database, "acme")
    assert found is not None
    return found


async def stage(services: Services, place: Organization, version: str = "1.0.0") -> staging.Staged:
    wanted = staging.Staging(OpenPublication(version), [], Announced(1, "00"), "{}")
    project = await project_by_name(services.database, "acme", "web")
    return await staging.stage(services, SUPERUSER, project or place, "web", wanted)


async def rule_project(services: Services) -> str | None:
    row = await services.database.one("SELECT project FROM trust_rule WHERE id = 't'")
    assert row is not None
    found: str | None = row["project"]
    return found


def test_an_address_ends_after_minutes(run: Run) -> None:
    async def work(services: Services, clock: MovingClock) -> None:
        staged = await stage(services, await organization(services))
        clock.ahead = staging.ADDRESS_LIFETIME - 10_000_000
        await staging.find_by_address(services, staged.address)
        clock.ahead = staging.ADDRESS_LIFETIME
        with pytest.raises(HubError) as caught:
            await staging.find_by_address(services, staged.address)
        assert caught.value.ref == "upload-address-invalid"

    run(work)


def test_a_release_that_never_comes_takes_its_new_project_along_and_trust_waits_again(run: Run) -> None:
    async def work(services: Services, clock: MovingClock) -> None:
        place = await organization(services)
        staged = await stage(services, place)
        assert await rule_project(services) is not None
        await stage(services, place, "2.0.0")
        async with services.database.transaction() as connection:
            await connection.run("DELETE FROM publication WHERE id = $1", staged.publication)
        await expire(services)
        assert await project_by_name(services.database, "acme", "web") is not None  # the other one is open
        clock.ahead = rules.LIFETIME
        await expire(services)
        assert await project_by_name(services.database, "acme", "web") is None
        assert await rule_project(services) is None
        for table in ("publication", "upload_address", "publication_document"):
            assert await services.database.all(f"SELECT 1 AS one FROM {table}") == []

    run(work)


def test_a_project_that_was_made_on_purpose_stays(run: Run) -> None:
    async def work(services: Services, clock: MovingClock) -> None:
        place = await organization(services)
        await stage(services, place)
        async with services.database.transaction() as connection:
            await connection.run("UPDATE project SET provisional = FALSE")
        clock.ahead = rules.LIFETIME
        await expire(services)
        assert await project_by_name(services.database, "acme", "web") is not None

    run(work)
