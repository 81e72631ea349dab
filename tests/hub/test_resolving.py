"""A reference resolves to the highest release that its requirement allows, and says no more than its reader
may know.
"""

from typing import Any

import pytest

from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE

ROLLING = f"0.1.7+rev-{'d' * 40}"


@pytest.fixture(scope="module")
def acme(shared_hub: Hub) -> Acme:
    made = Acme(shared_hub)
    for number, version in enumerate(("0.1.5", "1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1", "2.0.0-rc.2")):
        made.publish(version, chain(f"app{number}", 2))
    made.publish(ROLLING, chain("rolling", 2), rolling=True)
    return made


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("*", "1.10.0"),
        ("1", "1.10.0"),
        ("1.2", "1.10.0"),
        ("~1.2", "1.2.0"),
        ("=1.0", "1.0.0"),
        ("=1.0.0", "1.0.0"),
        ("v1.2.0", "1.10.0"),
        ("0", ROLLING),
        ("0.1", ROLLING),
        ("=0.1.7", ROLLING),
        (f"={ROLLING}", ROLLING),
        ("%3C1.2", "1.0.0"),
        ("%3E=1,%20%3C1.10", "1.2.0"),
        ("2.0.0-rc", "2.0.0-rc.2"),
        ("=2.0.0-rc.1", "2.0.0-rc.1"),
        ("%3E=1,%20%3C2.0.0-rc.2", "2.0.0-rc.1"),
    ],
)
def test_the_highest_release_that_matches_is_taken(acme: Acme, requirement: str, version: str) -> None:
    resolved = acme.resolve(requirement).json()
    assert resolved["version"] == version
    assert resolved["token"].startswith("piste_closure_")


@pytest.mark.parametrize("requirement", ["3", "=1.0.1", "2", "%3E1.10"])
def test_what_nothing_matches_is_said_so(acme: Acme, requirement: str) -> None:
    answer = acme.resolve(requirement)
    assert (answer.status, answer.ref) == (404, "no-release-matches")


@pytest.mark.parametrize("requirement", ["1%202", "x.1", "1.2.3.4", "%7C%7C", "01", "latest"])
def test_a_requirement_that_is_none_is_said_so(acme: Acme, requirement: str) -> None:
    answer = acme.resolve(requirement)
    assert (answer.status, answer.ref) == (400, "bad-requirement")


def test_names_come_back_in_their_own_spelling(acme: Acme) -> None:
    base = f"/api/v1/projects/{acme.organization.upper()}/WEB/resolve/1"
    resolved = acme.ask("GET", f"{base}/nixosConfigurations.%22web%22").json()
    assert resolved["reference"] == f"{acme.organization}/web/1#{ATTRIBUTE}"
    assert (resolved["organization"], resolved["project"]) == (acme.organization, "web")
    assert resolved["attribute_path"] == ATTRIBUTE
    assert resolved["cache_url"] == f"{acme.hub.url}/cache/{acme.organization}/web"
    assert resolved["token"] is None


def test_an_attribute_path_that_is_not_there_names_the_near_ones(acme: Acme) -> None:
    answer = acme.resolve("1", "nixosConfiguration.wep")
    assert (answer.status, answer.ref) == (404, "attribute-not-found")
    assert ATTRIBUTE in answer.json()["error"]["hint"]
    assert acme.resolve("1", "a..b").ref == "bad-reference"
    assert acme.resolve("1", "..%2F..").ref == "bad-reference"


def make_token(acme: Acme, **more: Any) -> str:
    bound = {"project": f"{acme.organization}/web", "requirement": "1", "attribute": ATTRIBUTE, **more}
    return acme.hub.make_token(acme.organization, kind="resolve-only", **bound)


def test_a_resolve_only_token_resolves_its_output_and_exact_versions(acme: Acme) -> None:
    token = make_token(acme)
    assert acme.resolve("1", token=token).json()["version"] == "1.10.0"
    assert acme.resolve("=1.0.0", token=token).json()["version"] == "1.0.0"
    for requirement in ("*", "1.0", "=1.0", "%5E1", "~1.10"):
        assert acme.resolve(requirement, token=token).ref == "requirement-not-allowed"
    assert acme.resolve("1", "packages.x", token=token).ref == "forbidden"


def test_a_resolve_only_token_learns_no_names_of_outputs(acme: Acme) -> None:
    token = make_token(acme, attribute="nixosConfigurations.wep")
    answer = acme.resolve("1", "nixosConfigurations.wep", token=token)
    assert answer.ref == "attribute-not-found"
    assert ATTRIBUTE not in answer.body.decode()


def test_a_minimum_version_holds_for_exact_requirements_too(acme: Acme) -> None:
    token = make_token(acme, minimum_version="1.2.0")
    assert acme.resolve("1", token=token).json()["version"] == "1.10.0"
    assert acme.resolve("=1.2.0", token=token).json()["version"] == "1.2.0"
    assert acme.resolve("=1.0.0", token=token).ref == "requirement-not-allowed"
    later = make_token(acme, minimum_version="1.11.0")
    assert acme.resolve("1", token=later).ref == "requirement-not-allowed"


def test_nobody_learns_whether_a_private_project_exists(acme: Acme) -> None:
    for token in (None, Acme(acme.hub).member):
        there = acme.resolve("1", token=token)
        assert (there.status, there.ref) == (404, "not-found")
        missing = acme.hub.request(
            "GET", f"/api/v1/projects/{acme.organization}/none/resolve/1/x", token=token
        )
        first, second = there.json()["error"], missing.json()["error"]
        first.pop("request_id")
        second.pop("request_id")
        assert first == second
