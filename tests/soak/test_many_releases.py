"""The hub takes in one large release after another, and is no larger after the fifth than after the first."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from piste.wire.publication import DeclaredOutput
from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, Publishing, make_source, member
from tests.running.tenants import Tenant, make_tenant
from tests.soak.test_large import HUB_LIMIT, MB, peak_of

PATHS, RELEASES, CHANGED = 20_000, 5, 200
UPLOADED = 1_000


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub")
    try:
        yield made.start()
    finally:
        made.close()


def _closure(release: int, kept: int) -> list[Member]:
    """The first `kept` paths are those of every release."""
    draw = random.Random(0)
    made: list[Member] = []
    for number in range(PATHS - 1):
        seed = (number, release if number >= kept else -1)
        made.append(member(f"part-{number}", seed, draw.randbytes(400), [each.path for each in made[-3:]]))
    return [*made, member("top", release, b"", [each.path for each in made[-20:]])]


def _publish(tenant: Tenant, version: str, members: list[Member]) -> None:
    """In uploads that are no longer than those of `piste publish`, on whatever disk the hub has."""
    with tenant.client() as client:
        publishing = Publishing(client, tenant.organization, tenant.project, version)
        output = DeclaredOutput(ATTRIBUTE, str(members[-1].path))
        missing = set(publishing.declare(members, [output]))
        wanted = [each for each in members if each.path.base_name in missing]
        for start in range(0, len(wanted), UPLOADED):
            publishing.upload(b"".join(each.frame for each in wanted[start : start + UPLOADED]))
        publishing.source(make_source(version))
        publishing.finish()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kept", [0, PATHS - CHANGED])
def test_five_releases_of_twenty_thousand_paths(hub: Hub, kept: int) -> None:
    tenant = make_tenant(hub, "acme", "web")
    most = []
    for release in range(RELEASES):
        _publish(tenant, f"{release}.0.0", _closure(release, kept))
        most.append(peak_of(hub))
    sys.stdout.write(
        f"{PATHS} paths, {kept} of them in all: {', '.join(f'{each / MB:.0f}' for each in most)} MB\n"
    )
    assert most[-1] < HUB_LIMIT
