"""A real OpenID provider, and hubs and services that may fetch from this machine."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from piste.hub.app import build
from piste.hub.services import Services
from piste.hub.settings import make_settings
from piste.lib.clock import wall_clock
from tests.hub.process import Hub
from tests.identities.openid import Certificate, Provider
from tests.running.hubs import fetching_hub

T = TypeVar("T")
RunWithServices = Callable[[Callable[[Services], Coroutine[Any, Any, T]]], T]
CLAIMS = {
    "sub": "repo:acme/web:ref:refs/heads/main",
    "repository": "acme/web",
    "repository_id": "123",
    "ref": "refs/heads/main",
    "ref_protected": "true",
    "event_name": "push",
}


class MovingClock:
    """The wall clock, some time ahead."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


@pytest.fixture
def provider(certificate: Certificate) -> Iterator[Provider]:
    made = Provider(certificate, claims=dict(CLAIMS))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def with_services(tmp_path: Path, certificate: Certificate, clock: MovingClock) -> RunWithServices[Any]:
    """Runs a coroutine with services in this process, which may fetch from `localhost`."""
    settings = make_settings(
        tmp_path / "data",
        listen="127.0.0.1:1",
        public_url="http://127.0.0.1:1",
        allow_egress=("localhost",),
    )

    def run(work: Callable[[Services], Coroutine[Any, Any, T]]) -> T:
        async def inner() -> T:
            async with AsyncExitStack() as stack:
                return await work(await build(settings, stack, clock))

        return asyncio.run(inner())

    return run


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Hub]:
    """A running hub that the tests of a module share; on both engines. Each makes its own organization."""
    with fetching_hub(request, tmp_path_factory) as running:
        yield running
