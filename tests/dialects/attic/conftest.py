"""A hub on both engines, and an organization with a publisher for each test."""

import pytest

from tests.hub.conftest import shared_hub
from tests.hub.process import Hub
from tests.hub.publishing import Acme

__all__ = ["shared_hub"]


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)
