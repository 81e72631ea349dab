"""A hub, an organization with a publisher, and the publisher's machine."""

from pathlib import Path

import pytest

from tests.hub.process import Hub
from tests.running.command import Person
from tests.running.fixtures import hub
from tests.running.tenants import Tenant, make_tenant

__all__ = ["hub"]

_COUNT = iter(range(1_000_000))


@pytest.fixture
def tenant(hub: Hub) -> Tenant:
    """A new organization with the private project `web`."""
    return make_tenant(hub, f"acme{next(_COUNT)}", "web")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one machine, whose store the tests share: what is built once need not be built again."""
    return tmp_path_factory.mktemp("publisher")


@pytest.fixture
def publisher(tenant: Tenant, machine: Path) -> Person:
    return Person(machine, tenant.hub.url, tenant.token)
