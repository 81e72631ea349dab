"""The identity of a CI where a token belongs: magic-nix-cache sends it to all of its routes."""

import os

import pytest

from tests.dialects.attic.exchanges import Client, ask_project, cache_of
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.identities.conftest import hub, provider
from tests.identities.openid import Provider
from tests.identities.test_exchange import trust

__all__ = ["hub", "provider"]


@pytest.fixture
def acme(hub: Hub) -> Acme:
    return Acme(hub)


def test_rows_18_and_19_an_identity_finds_its_project_and_fills_its_cache(
    acme: Acme, provider: Provider
) -> None:
    acme.add_project("other")
    trust(acme, provider)
    identity = provider.mint()
    # It is trusted with one project, so it need not name it.
    assert (
        ask_project(acme.hub, identity).json()
        == ask_project(acme.hub, acme.member, f"{acme.organization}/web").json()
    )
    client = Client(acme.hub, cache_of(acme.hub, identity, ""), identity)
    closure = chain("ci", 3, os.urandom(500))
    assert client.config().status == 200
    assert len(client.push(closure)) == 3
    assert client.push(closure) == []
    assert acme.narinfo(closure[-1]).status == 200
    # magic-nix-cache takes a new one every few minutes.
    assert Client(acme.hub, client.cache, provider.mint()).missing([]).status == 200


def test_an_identity_fills_no_other_cache(acme: Acme, provider: Provider) -> None:
    acme.add_project("other")
    acme.add_project("open", "public")
    trust(acme, provider)
    identity = provider.mint()
    for project in ("other", "open"):
        elsewhere = Client(acme.hub, f"{acme.organization}+{project}", identity)
        replies = [elsewhere.config(), elsewhere.missing([]), elsewhere.upload(chain("x", 1)[0])]
        assert [each.status for each in replies] == [404] * 3


def test_gotcha_19_a_refreshed_identity_has_a_fixed_audience_that_a_rule_can_name(
    acme: Acme, provider: Provider
) -> None:
    trust(acme, provider)
    refreshed = provider.mint(aud="api.flakehub.com")
    client = Client(acme.hub, f"{acme.organization}+web", refreshed)
    assert client.missing([]).status == 403
    trust(acme, provider, audience="api.flakehub.com")
    assert client.missing([]).status == 200
