"""Fixtures that several folders of tests share; the conftest.py of each names those that it wants."""

from collections.abc import Iterator

import pytest

from tests.hub.postgres import Postgres, running_postgres
from tests.hub.process import Hub


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A running hub on SQLite that the tests of a module share."""
    made = Hub(tmp_path_factory.mktemp("hub"))
    try:
        yield made.start()
    finally:
        made.close()
