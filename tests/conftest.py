"""What holds for every test."""

from collections.abc import Iterator

import pytest

from tests.running.fixtures import certificate, postgres

__all__ = ["certificate", "postgres"]


@pytest.fixture(scope="session", autouse=True)
def home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nix writes into the home of whoever calls it; whoever runs the tests keeps theirs as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            patch.delenv(name, raising=False)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of few tests that take minutes come first: at the end, one worker would be alone with them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
