"""The identity of a CI as the credential, as `flakehub-push` sends it in GitHub and GitLab: a JWT of a real
issuer, the same with each request."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dialects.attic.exchanges import Client, cache_of
from tests.dialects.flakehub_push.pusher import Pusher, inventory, leaf
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, chain
from tests.identities.conftest import CLAIMS
from tests.identities.openid import Certificate, Provider
from tests.identities.test_exchange import exchange
from tests.running.hubs import fetching_hub

SUBJECT = str(CLAIMS["sub"])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Hub]:
    with fetching_hub(request, tmp_path_factory) as running:
        yield running


@pytest.fixture
def acme(hub: Hub) -> Acme:
    return Acme(hub, visibility="public")


def trust(acme: Acme, provider: Provider, project: str = "web", **fields: Any) -> None:
    """With no audience given: the hub's own, which is the host of its address."""
    place = f"/api/v1/organizations/{acme.organization}/trust"
    rule = {"project": project, "issuer": provider.issuer, "claims": {"repository_id": ["123"]}, **fields}
    acme.hub.as_admin("POST", place, json=rule)


def pusher(acme: Acme, token: str, project: str = "web", version: str = "1.0.0") -> Pusher:
    return Pusher(acme.hub, token, f"{acme.organization}/{project}", version)


def test_gotcha_19_an_identity_for_the_host_of_the_hub_publishes(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    pusher(acme, provider.mint(aud="127.0.0.1")).run()
    shown = acme.ask("GET", f"{acme.base}/releases/1").json()
    assert shown["release"]["version"] == "1.0.0"
    other = pusher(acme, provider.mint(aud="api.flakehub.com"), version="2.0.0")
    assert (other.status().status, other.stage().status) == (401, 401)


def test_one_identity_makes_the_project_that_a_rule_waits_for_and_no_other(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider, "new")
    pusher(acme, provider.mint(), "new").run()
    place = f"/api/v1/projects/{acme.organization}/new/releases"
    assert [each["version"] for each in acme.ask("GET", place).json()] == ["1.0.0"]
    assert pusher(acme, provider.mint(), "newer").stage().status == 404
    assert pusher(acme, provider.mint(), "web").stage().status == 404


def test_trust_that_waits_does_not_tell_which_other_projects_there_are(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider, "new")
    acme.add_project("vault", "private")
    identity = provider.mint()
    session = exchange(acme, provider.mint(), "new").json()["token"]
    for token in (identity, session):
        for body in (None, b"{"):
            there, absent = (pusher(acme, token, name).stage(body=body) for name in ("vault", "nothing"))
            assert there.status == absent.status == 404
            assert there.body == absent.body


def test_an_identity_that_no_rule_agrees_with_is_told_so(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    stranger = pusher(acme, provider.mint(repository_id="999"))
    for step in (stranger.status, stranger.stage):
        refused = step()
        assert refused.status == 401
        assert "trust" in refused.json()


def test_an_upload_of_another_identity_is_missing(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    mine, other = pusher(acme, provider.mint()), pusher(acme, provider.mint())
    mine.stage()
    mine.put()
    assert other.publish(mine.uuid).status == 404
    assert mine.publish().status == 200


def test_gotcha_30_an_identity_that_expires_during_the_upload_still_publishes_it(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    now = int(time.time())
    push = pusher(acme, provider.mint(iat=now - 60, exp=now - 26))  # clocks may differ by thirty seconds
    assert (push.stage().status, push.put().status) == (200, 200)
    wait_for(lambda: push.status().status == 401)
    assert push.stage(digest=push.digest).status == 401
    assert push.publish().status == 200


def test_paths_of_another_project_count_as_far_as_the_rules_of_the_identity_reach(
    acme: Acme, provider: Provider
) -> None:
    for project in ("near", "far"):
        acme.add_project(project)
    for project in ("web", "near"):
        trust(acme, provider, project)
    for version, project, status in (("1.0.0", "near", 200), ("2.0.0", "far", 404)):
        closure = chain(project, 2, acme.organization.encode())
        cache = cache_of(acme.hub, acme.member, f"{acme.organization}/{project}")
        Client(acme.hub, cache, acme.member).push(closure)
        push = pusher(acme, provider.mint(), version=version)
        push.said = {"outputs": inventory({"nixosConfigurations": {"web": leaf(str(closure[-1].path))}})}
        push.run()
        assert acme.resolve(f"={version}").status == status


def test_the_audit_log_names_the_identity_for_each_step(acme: Acme, provider: Provider) -> None:
    trust(acme, provider)
    pusher(acme, provider.mint()).run()
    place = f"/api/v1/organizations/{acme.organization}/audit"
    answer = acme.hub.request("GET", place, token=acme.hub.admin)
    entries = [json.loads(line) for line in answer.body.splitlines()]
    steps = [
        each for each in entries if each["action"].split("/")[1] in ("upload", "upload-address", "publish")
    ]
    assert len(steps) == 3
    assert {each["kind"] for each in steps} == {"identity"}
    assert {each["name"] for each in steps} == {SUBJECT}
