"""Foreign base of a delta: a release that one may not read is named as what one runs, so that the hub
compares one's own with it. How large the difference is, or that there is one, would tell what is in it.
"""

import random
from typing import Any

import msgspec
import pytest

from piste.wire.deltas import delta_address
from piste.wire.plan import PlanAnswer
from tests.hub.process import Answer, wait_for
from tests.running.closures import ATTRIBUTE, Member, member, publish
from tests.running.tenants import Tenant

SECRET = random.Random(7).randbytes(300_000)


def system(tenant: Tenant, version: str, content: bytes) -> list[Member]:
    return [member("plans", (tenant.organization, version), content + version.encode())]


def digest_of(tenant: Tenant, version: str) -> str:
    found = tenant.hub.request("GET", f"{tenant.api}/resolve/={version}/{ATTRIBUTE}", token=tenant.token)
    digest: str = found.json()["manifest"]
    return digest


@pytest.fixture(scope="module")
def guess(acme: Tenant, rival: Tenant) -> tuple[Tenant, str]:
    """The rival publishes what it takes acme's secret to be. Its project, and the digest of acme's manifest,
    as it may have been told."""
    with acme.client() as client:
        publish(client, acme.organization, acme.project, "5.0.0", system(acme, "5.0.0", SECRET))
    with rival.client() as client:
        for version in ("1.0.0", "1.1.0"):
            publish(client, rival.organization, rival.project, version, system(rival, version, SECRET))
    return rival, digest_of(acme, "5.0.0")


def plan(tenant: Tenant, token: str, base: str, version: str = "1.1.0") -> dict[str, Any]:
    """The plan without what differs each time."""
    named = base.removeprefix("sha256:")
    address = f"{tenant.api}/plan/={version}/{ATTRIBUTE}?have={named}"
    answer = tenant.hub.request("GET", address, token=token)
    assert answer.status == 200, answer.body
    said = msgspec.json.decode(answer.body, type=PlanAnswer)
    plain: dict[str, Any] = msgspec.to_builtins(said)
    plain["resolution"] |= {"token": None, "token_expires_at": None}
    return plain


def delta(tenant: Tenant, token: str, target: str, base: str) -> Answer:
    address = f"{tenant.cache_path}/{delta_address(target, base, 0)}"
    return tenant.hub.request("GET", address, token=token)


def told(answer: Answer) -> tuple[int, dict[str, Any]]:
    problem = answer.json()["error"]
    problem.pop("request_id")
    return answer.status, problem


def test_foreign_base_of_a_delta(acme: Tenant, guess: tuple[Tenant, str]) -> None:
    rival, foreign = guess
    target, own = digest_of(rival, "1.1.0"), digest_of(rival, "1.0.0")
    token = rival.resolve_only("*", ATTRIBUTE)
    nothing = plan(rival, token, "0" * 64)
    assert nothing.get("deltas") is None
    assert plan(rival, token, foreign) == nothing
    # One of its own is made meanwhile, so that one would have been made of acme's as well.
    wait_for(lambda: plan(rival, token, own).get("deltas") is not None, seconds=60)
    assert plan(rival, token, foreign) == nothing
    for credential in (token, rival.token):
        assert told(delta(rival, credential, target, foreign)) == told(
            delta(rival, credential, target, "0" * 64)
        )
        assert delta(rival, credential, target, own).status == (200 if credential == rival.token else 403)
    # Nor through acme's own address, nor the other way round.
    for base, to in ((own, foreign), (foreign, target)):
        assert delta(acme, rival.token, to, base).status == 404
    made = {file.name for file in (rival.hub.data / "objects").rglob("*") if foreign[7:] in file.name}
    assert all("delta" not in name for name in made), made


def test_foreign_base_of_a_delta_within_the_project_is_one_outside_of_the_requirement(
    guess: tuple[Tenant, str],
) -> None:
    """A host's token for 1.1 does not learn how 1.1 differs from 1.0."""
    rival, _ = guess
    target, own = digest_of(rival, "1.1.0"), digest_of(rival, "1.0.0")
    wide, narrow = rival.resolve_only("*", ATTRIBUTE), rival.resolve_only("=1.1.0", ATTRIBUTE)
    wait_for(lambda: plan(rival, wide, own).get("deltas") is not None, seconds=60)
    assert plan(rival, narrow, own) == plan(rival, narrow, "0" * 64)
    address = f"{rival.api}/plan/=1.1.0/{ATTRIBUTE}"
    answer = rival.hub.request("GET", address, token=narrow)
    closure = msgspec.json.decode(answer.body, type=PlanAnswer).resolution.token
    assert closure is not None
    assert told(delta(rival, closure, target, own)) == told(delta(rival, closure, target, "0" * 64))
