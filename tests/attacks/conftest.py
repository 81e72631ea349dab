"""Two organizations on one hub that know nothing of each other; each has a project and a publisher."""

import pytest

from tests.hub.process import Hub
from tests.running.fixtures import hub
from tests.running.tenants import Tenant, make_tenant

__all__ = ["hub"]


@pytest.fixture(scope="module")
def acme(hub: Hub) -> Tenant:
    """Those who are attacked."""
    return make_tenant(hub, "acme", "vault")


@pytest.fixture(scope="module")
def rival(hub: Hub) -> Tenant:
    """Those who attack."""
    return make_tenant(hub, "rival", "app")
