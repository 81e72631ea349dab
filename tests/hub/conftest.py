"""Fixtures: real engines, real hub processes. A test that takes `engine` (or what is made of it) runs on
both."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from piste.hub.app import build
from piste.hub.services import Services
from piste.hub.settings import make_settings
from tests.hub.postgres import Postgres
from tests.hub.process import Hub

T = TypeVar("T")
RunWithServices = Callable[[Callable[[Services], Coroutine[Any, Any, T]]], T]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> str | None:
    """A new, empty database of the engine; None stands for SQLite in the data folder."""
    if engine == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("postgres")
    return server.create()


@pytest.fixture
def make_hub(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Starts hubs that end with the test; without arguments on SQLite in a folder of their own."""
    made: list[Hub] = []

    def make(
        *options: str, data: Path | None = None, database: str | None = None, listen: str = "127.0.0.1:0"
    ) -> Hub:
        hub = Hub(data or tmp_path / f"hub{len(made)}", database, options, listen)
        made.append(hub)
        return hub.start()

    yield make
    for hub in made:
        hub.close()


@pytest.fixture
def hub(make_hub: Callable[..., Hub], database_url: str | None) -> Hub:
    """A running hub; on both engines."""
    return make_hub(database=database_url)


@pytest.fixture(scope="module")
def sqlite_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A running hub on SQLite that the tests of a module share."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        yield hub.start()
    finally:
        hub.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A running hub that the tests of a module share; on both engines. Each makes its own organization."""
    database = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.create()
    hub = Hub(tmp_path_factory.mktemp("hub"), database)
    try:
        yield hub.start()
    finally:
        hub.close()


@pytest.fixture
def with_services(tmp_path: Path, database_url: str | None) -> RunWithServices[Any]:
    """Runs a coroutine with services on a new database, in this process; on both engines."""
    settings = make_settings(tmp_path / "data", listen="127.0.0.1:1", database=database_url)

    def run(work: Callable[[Services], Coroutine[Any, Any, T]]) -> T:
        async def inner() -> T:
            async with AsyncExitStack() as stack:
                return await work(await build(settings, stack))

        return asyncio.run(inner())

    return run
