"""Which rules may be made, what their patterns agree with, and what the presets bind."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.hub.errors import HubError
from piste.hub.identities.presets import expand
from piste.hub.identities.records import Claims, Identity, TrustRule
from piste.hub.identities.rules import agrees, check_audience, check_claims, check_issuer, matches
from piste.wire.identities import NewTrust

AGREEING = [
    ("refs/heads/main", "refs/heads/main"),
    ("refs/heads/*", "refs/heads/main"),
    ("refs/tags/v*", "refs/tags/v1.4.0"),
    ("refs/heads/release-*-x", "refs/heads/release-1-x"),
    ("repo:acme/*:ref:refs/heads/main", "repo:acme/web:ref:refs/heads/main"),
    ("*", "anything"),
    ("a*b*c", "aXbYc"),
    ("a*b*c", "aXbbbYcc"),
    ("*:*", "a:b"),
]
DIFFERING = [
    ("refs/heads/main", "refs/heads/main2"),
    ("refs/heads/main", "refs/heads/Main"),
    ("refs/heads/main", "refs/heads/main\n"),
    ("refs/heads/*", "refs/heads/feature/main"),  # no `*` crosses a slash
    ("refs/heads/*", "refs/heads/"),  # it stands for one character at least
    ("refs/heads/*", "refs/heads/a\nb"),
    ("*", ""),
    ("*", "a/b"),
    ("*", "a:b"),
    ("repo:acme/*:ref:refs/heads/main", "repo:acme/web:pull_request:ref:refs/heads/main"),
    ("repo:acme/*:ref:refs/heads/main", "repo:acme/web:environment:x:ref:refs/heads/main"),
    ("repo:acme/*", "repo:acme/web:ref:refs/heads/main"),
    ("repo:acme/*", "repo:acme-evil/web"),
    ("a*a", "a"),
    ("a*b*c", "abc"),
    ("a*b", "aXc"),
    ("acme/web", "acme:web"),
    ("v*", "1.0"),
    ("?", "a"),  # nothing else is a wildcard
    ("[a]", "a"),
    (".*", "ab"),
]


@pytest.mark.parametrize(("pattern", "value"), AGREEING)
def test_a_pattern_agrees_with(pattern: str, value: str) -> None:
    assert matches(pattern, value)


@pytest.mark.parametrize(("pattern", "value"), DIFFERING)
def test_a_pattern_never_agrees_with(pattern: str, value: str) -> None:
    assert not matches(pattern, value)


@given(
    st.text("ab*:/", max_size=8).filter(lambda text: "**" not in text),
    st.text("ab:/", min_size=1, max_size=10),
)
def test_patterns_agree_as_a_regular_expression_would(pattern: str, value: str) -> None:
    expression = "".join("[^:/]+" if sign == "*" else re.escape(sign) for sign in pattern)
    assert matches(pattern, value) == (re.fullmatch(expression, value) is not None)


def test_many_wildcards_take_no_time() -> None:
    assert not matches("*a" * 200 + "b", "a" * 2000)


@pytest.mark.parametrize(
    "claims",
    [
        {"repository_id": ["123"]},
        {"project_id": ["7"], "ref": ["*"]},
        {"sub": ["repo:acme/web:ref:refs/heads/main"]},
        {"sub": ["repo:acme/*:ref:refs/heads/main"]},
        {"repository": ["acme/*"]},
        {"repository_owner": ["acme"]},
    ],
)
def test_a_rule_that_says_whose_runs_are_meant_is_taken(claims: Claims) -> None:
    assert check_claims(claims) == claims


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"ref": ["refs/heads/main"]},
        {"event_name": ["push"], "ref_protected": ["true"], "environment": ["production"]},
        {"job_workflow_ref": ["acme/flows/.github/workflows/x.yml@refs/heads/main"]},  # anybody may call it
        {"repository_id": ["*"]},
        {"repository_id": ["1", "*"]},
        {"repository": ["*/web"]},
        {"repository_owner": ["acme*"]},
        {"sub": ["repo:*/*:ref:refs/heads/main"]},
        {"sub": ["repo:ac*/web:ref:refs/heads/main"]},
        {"repository_id": []},
        {"repository_id": [""]},
        {"repository_id": ["1**"]},
        {"repository_id": ["1\n"]},
        {"repository_id": ["1" * 513]},
        {"iss": ["https://other.example"]},
        {"aud": ["x"], "repository_id": ["1"]},
        {"a b": ["x"], "repository_id": ["1"]},
        {f"c{number}": ["x"] for number in range(21)},
    ],
)
def test_a_rule_that_matches_too_much_or_nothing_is_refused(claims: Claims) -> None:
    with pytest.raises(HubError) as caught:
        check_claims(claims)
    assert caught.value.ref == "bad-trust"


@pytest.mark.parametrize(
    "issuer",
    [
        "http://ci.example.org",
        "https://user@ci.example.org",
        "https://ci.example.org#x",
        "https://ci.example.org?x=1",
        "https://ci.example.org\\@evil.example",
        "https:///path",
        "ftp://ci.example.org",
        "ci.example.org",
        "https://ci.example.org:99999",
        "https://" + "a" * 3000,
    ],
)
def test_what_is_no_plain_address_is_no_issuer(issuer: str) -> None:
    with pytest.raises(HubError):
        check_issuer(issuer)


@pytest.mark.parametrize("audience", ["", "*", "hub.*", "a\nb", "x" * 600])
def test_an_audience_is_one_exact_text(audience: str) -> None:
    with pytest.raises(HubError):
        check_audience(audience)


def _identity(**claims: str) -> Identity:
    return Identity("https://ci.example.org", "s", ("hub.example.org",), claims, "use", 0)


def _rule(issuer: str, claims: Claims, audience: str = "hub.example.org") -> TrustRule:
    return TrustRule(
        id="r",
        organization="o",
        project=None,
        project_name="web",
        issuer=issuer,
        audience=audience,
        claims=msgspec.json.encode(claims).decode(),
        created_by=None,
        created_at=0,
    )


def test_every_claim_has_to_agree_with_one_of_its_patterns() -> None:
    rule = _rule(
        "https://ci.example.org", {"repository_id": ["1"], "ref": ["refs/heads/main", "refs/tags/*"]}
    )
    assert agrees(rule, _identity(repository_id="1", ref="refs/heads/main")) is None
    assert agrees(rule, _identity(repository_id="1", ref="refs/tags/v1")) is None
    assert agrees(rule, _identity(repository_id="2", ref="refs/heads/main")) == "repository_id"
    assert agrees(rule, _identity(repository_id="1", ref="refs/heads/other")) == "ref"
    assert agrees(rule, _identity(repository_id="1")) == "ref"


def test_issuer_and_audience_are_compared_to_the_letter() -> None:
    claims = {"repository_id": ["1"]}
    identity = _identity(repository_id="1")
    assert agrees(_rule("https://ci.example.org/", claims), identity) == "iss"
    assert agrees(_rule("https://ci.example.org", claims, "hub.example.org.evil"), identity) == "aud"


def test_the_preset_of_github_binds_number_protected_ref_and_events() -> None:
    asked = NewTrust("web", preset="github", repository="acme/web", repository_id="123")
    issuer, claims = expand(asked)
    assert issuer == "https://token.actions.githubusercontent.com"
    assert claims == {
        "repository": ["acme/web"],
        "repository_id": ["123"],
        "ref": ["refs/heads/main"],
        "ref_protected": ["true"],
        "event_name": ["push", "release", "schedule", "workflow_dispatch"],
    }
    run = {
        "repository": "acme/web",
        "repository_id": "123",
        "ref": "refs/heads/main",
        "ref_protected": "true",
    }
    rule = _rule("https://ci.example.org", claims)
    assert agrees(rule, _identity(**run, event_name="push")) is None
    for event in ("pull_request", "pull_request_target", "issue_comment", "workflow_run"):
        assert agrees(rule, _identity(**run, event_name=event)) == "event_name"
    taken_over = run | {"repository_id": "124"}
    assert agrees(rule, _identity(**taken_over, event_name="push")) == "repository_id"
    for ref, protected in (("refs/pull/7/merge", "false"), ("refs/heads/main", "false")):
        assert agrees(rule, _identity(**(run | {"ref": ref, "ref_protected": protected}))) is not None


def test_the_presets_of_gitlab_and_forgejo_say_the_same_in_their_words() -> None:
    gitlab = NewTrust(
        "web", preset="gitlab", repository="acme/sub/web", repository_id="7", refs=["refs/tags/v*"]
    )
    assert expand(gitlab) == (
        "https://gitlab.com",
        {
            "project_path": ["acme/sub/web"],
            "project_id": ["7"],
            "ref_path": ["refs/tags/v*"],
            "ref_protected": ["true"],
            "pipeline_source": ["push", "schedule", "web"],
        },
    )
    forgejo = NewTrust(
        "web",
        issuer="https://git.example.org/api/actions",
        preset="forgejo",
        repository="acme/web",
        environment="production",
        claims={"workflow": ["release.yml"]},
    )
    issuer, claims = expand(forgejo)
    assert issuer == "https://git.example.org/api/actions"
    assert claims["environment"] == ["production"] and claims["workflow"] == ["release.yml"]
    assert check_claims(claims)


@pytest.mark.parametrize(
    "asked",
    [
        NewTrust("web", preset="nothing", repository="acme/web", repository_id="1"),
        NewTrust("web", preset="github", repository="acme/web"),
        NewTrust("web", preset="github", repository_id="1"),
        NewTrust("web", preset="github", repository="acme/*", repository_id="1"),
        NewTrust("web", preset="github", repository="acme/web", repository_id="1*"),
        NewTrust("web", preset="github", repository="acme/web", repository_id="1", refs=["main"]),
        NewTrust(
            "web", preset="github", repository="acme/web", repository_id="1", refs=["refs/pull/1/merge"]
        ),
        NewTrust("web", preset="forgejo", repository="acme/web"),
        NewTrust(
            "web", preset="github", repository="acme/web", repository_id="1", claims={"event_name": ["*"]}
        ),
    ],
)
def test_a_preset_that_would_bind_less_is_refused(asked: NewTrust) -> None:
    with pytest.raises(HubError) as caught:
        expand(asked)
    assert caught.value.ref == "bad-trust"
