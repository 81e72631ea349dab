"""What the tests of the whole way share."""

from tests.running.fixtures import postgres

__all__ = ["postgres"]
