"""A hub, an organization with a publisher, and somebody at a machine of their own."""

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


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Somebody who has not logged in anywhere."""
    return Person(tmp_path / "person")
