"""What the tests of the whole way share."""

from tests.running.fixtures import hub, postgres

__all__ = ["hub", "postgres"]
