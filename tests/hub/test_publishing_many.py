"""A release of very many paths: it costs the hub little memory, and each path as much as one of few."""

from collections.abc import Sequence

import pytest

from piste.wire.publication import DeclaredOutput
from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, Publishing, file_nar, make_source, new_path
from tests.running.tenants import Tenant, make_tenant
from tests.soak.test_large import MB, peak_of

MANY = 20_000
# What the hub may take beside what it has when it starts. Before paths waited in files this was 115 MB.
LIMIT = 60 * MB


def closure(count: int) -> list[Member]:
    """Paths that all have one NAR, so that next to nothing is uploaded."""
    nar = file_nar(b"the same in all of them")
    made: list[Member] = []
    for number in range(count - 1):
        below = tuple(sorted(each.path for each in made[-3:]))
        made.append(Member(new_path(f"part-{number}", (count, number)), nar, below))
    top = tuple(sorted(each.path for each in made[-20:]))
    return [*made, Member(new_path("top", count), nar, top)]


def publish(tenant: Tenant, version: str, members: Sequence[Member]) -> None:
    with tenant.client() as client:
        publishing = Publishing(client, tenant.organization, tenant.project, version)
        # A path that is declared twice, and far apart, is one.
        missing = publishing.declare(
            [*members, members[0]], [DeclaredOutput(ATTRIBUTE, str(members[-1].path))]
        )
        assert missing == sorted(each.path.base_name for each in members)
        publishing.upload(members[0].frame)
        publishing.source(make_source(version))
        assert publishing.finish().outputs == {ATTRIBUTE: str(members[-1].path)}


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_release_of_twenty_thousand_paths_takes_little_memory(sqlite_hub: Hub) -> None:
    tenant = make_tenant(sqlite_hub, "acme", "web")
    before = peak_of(sqlite_hub)
    members = closure(MANY)
    publish(tenant, "1.0.0", members)
    names = [each.path.base_name for each in members]
    asked = {"paths": [*names, "0" * 32 + "-nobody-has-this"]}
    lacking = sqlite_hub.request("POST", f"{tenant.api}/pushes/missing", token=tenant.token, json=asked)
    assert lacking.json()["missing"] == ["0" * 32 + "-nobody-has-this"]
    assert peak_of(sqlite_hub) - before < LIMIT
