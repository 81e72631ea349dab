"""Another output, another project of the same organization, a version outside of the requirement, a yanked
one: as the base of a delta they are like what is not there.
"""

import random
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import pytest

from piste.wire.deltas import delta_address
from piste.wire.plan import PlanAnswer
from tests.hub.process import Answer, wait_for
from tests.running.closures import ATTRIBUTE, Member, member, publish
from tests.running.tenants import Tenant

NOTES = "packages.x86_64-linux.notes"
CONTENT = random.Random(1).randbytes(4000)


@dataclass(frozen=True)
class Bases:
    """Manifests: two that a host's token resolves, and those that it does not."""

    running: str
    wanted: str
    outside: dict[str, str]


def system(version: str) -> Member:
    return member("system", version, CONTENT + version.encode())


def manifest(tenant: Tenant, requirement: str, attribute: str = ATTRIBUTE) -> str:
    place = f"{tenant.api}/resolve/{quote(requirement)}/{quote(attribute)}"
    digest: str = tenant.hub.request("GET", place, token=tenant.token).json()["manifest"]
    return digest


@pytest.fixture(scope="module")
def bases(acme: Tenant, rival: Tenant) -> Bases:
    other = acme.another_project("other")
    for tenant, versions in (
        (acme, ("0.9.0", "1.0.0", "1.1.0", "1.2.0")),
        (other, ("1.0.0",)),
        (rival, ("1.0.0", "1.1.0")),
    ):
        for version in versions:
            top = system(f"{tenant.name} {version}")
            notes = member("system", f"notes of {tenant.name} {version}", CONTENT)
            outputs = {ATTRIBUTE: top, NOTES: notes}
            with tenant.client() as client:
                publish(client, tenant.organization, tenant.project, version, [notes, top], outputs=outputs)
    outside = {
        "below the requirement": manifest(acme, "=0.9.0"),
        "another output": manifest(acme, "=1.0.0", NOTES),
        "another project": manifest(other, "1"),
        "another organization": manifest(rival, "1"),
        "yanked": manifest(acme, "=1.1.0"),
        "nothing": "sha256:" + "0" * 64,
    }
    found = Bases(manifest(acme, "=1.0.0"), manifest(acme, "=1.2.0"), outside)
    place = f"{acme.api}/releases/1.1.0/yank"
    assert acme.hub.request("PUT", place, token=acme.hub.admin, json={}).status == 200
    return found


def plan(tenant: Tenant, token: str, *have: str, requirement: str = "1") -> PlanAnswer:
    query = "&".join(f"have={each.removeprefix('sha256:')}" for each in have)
    answer = tenant.hub.request("GET", f"{tenant.api}/plan/{requirement}/{ATTRIBUTE}?{query}", token=token)
    return msgspec.json.decode(answer.body, type=PlanAnswer)


def same(answer: PlanAnswer) -> PlanAnswer:
    """Without what differs each time."""
    resolution = msgspec.structs.replace(answer.resolution, token=None, token_expires_at=None)
    return msgspec.structs.replace(answer, resolution=resolution)


def fetch(tenant: Tenant, token: str | None, target: str, base: str) -> Answer:
    address = f"{tenant.cache_path}/{delta_address(target, base, 0)}"
    return tenant.hub.request("GET", address, token=token)


def told(answer: Answer) -> tuple[int, object]:
    """All of an answer but the request's id."""
    body = answer.json()
    body["error"].pop("request_id")
    return answer.status, body


def test_naming_a_foreign_base_is_like_naming_none(acme: Tenant, bases: Bases) -> None:
    host = acme.resolve_only("1", ATTRIBUTE)
    nothing = same(plan(acme, host))
    for name, base in bases.outside.items():
        assert same(plan(acme, host, base)) == nothing, name
    assert same(plan(acme, host, *bases.outside.values(), bases.running)) == same(
        plan(acme, host, bases.running)
    )


def test_a_delta_against_a_foreign_base_is_not_there_also_where_it_was_made_for_others(
    acme: Tenant, bases: Bases
) -> None:
    host = acme.resolve_only("1", ATTRIBUTE)
    # Somebody who may resolve all of the project has the hub make them.
    for base in (bases.running, bases.outside["below the requirement"], bases.outside["another output"]):
        plan(acme, acme.token, base)
    wait_for(
        lambda: fetch(acme, acme.token, bases.wanted, bases.outside["below the requirement"]).status == 200
    )
    wait_for(lambda: fetch(acme, acme.token, bases.wanted, bases.outside["another output"]).status == 200)
    token = plan(acme, host).resolution.token
    wait_for(lambda: fetch(acme, token, bases.wanted, bases.running).status == 200)
    missing = told(fetch(acme, token, bases.wanted, bases.outside["nothing"]))
    assert missing[0] == 404
    for name, base in bases.outside.items():
        assert told(fetch(acme, token, bases.wanted, base)) == missing, name
    assert told(fetch(acme, token, bases.outside["below the requirement"], bases.running)) == missing
    assert fetch(acme, None, bases.wanted, bases.running).status in (401, 404)


def test_the_base_is_out_of_reach_once_the_token_that_resolved_is_gone(acme: Tenant, bases: Bases) -> None:
    host = acme.resolve_only("1", ATTRIBUTE)
    token = plan(acme, host, bases.running).resolution.token
    wait_for(lambda: fetch(acme, token, bases.wanted, bases.running).status == 200)
    place = f"/api/v1/organizations/{acme.organization}/tokens"
    newest = max(
        each["id"]
        for each in acme.hub.as_admin("GET", place)
        if each["kind"] == "resolve-only" and not each.get("revoked_at")
    )
    acme.hub.as_admin("DELETE", f"{place}/{newest}")
    wait_for(lambda: fetch(acme, token, bases.wanted, bases.running).status in (401, 404))
