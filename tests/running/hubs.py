"""Hubs on either engine, for fixtures that run their tests on both."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.hub.postgres import Postgres
from tests.hub.process import Hub


@contextmanager
def fetching_hub(request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Iterator[Hub]:
    """A running hub that may fetch from this machine, on the engine that the fixture's parameter names."""
    database = None
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.create()
    hub = Hub(folders.mktemp("hub"), database, ("--allow-egress", "localhost"))
    try:
        yield hub.start()
    finally:
        hub.close()
