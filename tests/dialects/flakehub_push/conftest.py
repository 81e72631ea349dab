"""A hub on both engines, and an organization with a publisher for each test."""

import pytest

from tests.hub.conftest import make_hub, shared_hub
from tests.hub.process import Hub
from tests.hub.publishing import Acme
from tests.identities.conftest import provider

__all__ = ["make_hub", "provider", "shared_hub"]


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub, visibility="public")
