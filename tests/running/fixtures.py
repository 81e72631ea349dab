"""Fixtures that several folders of tests share; the conftest.py of each names those that it wants.

What there is once for a whole run is named by the conftest.py of all tests alone: each further one that named
it would make another.
"""

from collections.abc import Iterator

import pytest

from tests.hub.postgres import Postgres, running_postgres
from tests.hub.process import Hub
from tests.identities.openid import Certificate, make_certificate


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificate]:
    """Trusted by everything that tests start from here on, as SSL_CERT_FILE does it."""
    made = make_certificate(tmp_path_factory.mktemp("certificate"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made.file))
        yield made


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A running hub on SQLite that the tests of a module share."""
    made = Hub(tmp_path_factory.mktemp("hub"))
    try:
        yield made.start()
    finally:
        made.close()
