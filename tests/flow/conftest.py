"""What the tests of the whole way share."""

from tests.running.fixtures import hub

__all__ = ["hub"]
