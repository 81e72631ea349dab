"""Projects and releases as people list them, and what becomes of a release that is yanked."""

from typing import Any

import pytest

from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def versions(acme: Acme, requirement: str) -> list[str]:
    found: list[dict[str, Any]] = acme.ask("GET", f"{acme.base}/versions/{requirement}").json()
    return [each["version"] for each in found]


def test_a_project_is_made_once_whatever_the_case_and_keeps_its_spelling(acme: Acme) -> None:
    place = f"/api/v1/organizations/{acme.organization}/projects"
    assert acme.ask("POST", place, json={"name": "Site"}).json()["visibility"] == "private"
    assert acme.ask("POST", place, json={"name": "SITE"}).ref == "already-exists"
    assert acme.ask("POST", place, json={"name": "../x"}).ref == "bad-name"
    assert acme.ask("POST", place, json={"name": "x", "visibility": "secret"}).ref == "bad-request"
    found = acme.ask("GET", f"/api/v1/projects/{acme.organization.upper()}/sITE").json()
    assert (found["organization"], found["name"]) == (acme.organization, "Site")


def test_a_listing_shows_what_its_reader_may_see(acme: Acme) -> None:
    acme.add_project("open", "public")
    acme.add_project("quiet", "unlisted")
    place = f"/api/v1/projects?organization={acme.organization}"

    def names(token: str | None) -> list[str]:
        return [each["name"] for each in acme.hub.request("GET", place, token=token).json()]

    assert names(acme.member) == ["open", "quiet", "web"]
    assert names(None) == names(Acme(acme.hub).member) == ["open"]
    assert acme.hub.request("GET", f"/api/v1/projects/{acme.organization}/quiet").status == 200
    assert acme.hub.request("GET", f"/api/v1/projects/{acme.organization}/web").status == 404


def test_a_search_looks_at_names_descriptions_and_labels(acme: Acme) -> None:
    said = {"description": "A pad for everybody", "labels": ["editor"], "revision": "c" * 40}
    acme.publish("1.0.0", chain("app"), metadata=said)
    place = f"/api/v1/projects?organization={acme.organization}"
    for question, count in (("query=PAD", 1), ("query=nothing", 0), ("label=editor", 1), ("label=x", 0)):
        assert len(acme.ask("GET", f"{place}&{question}").json()) == count
    found = acme.ask("GET", place).json()[0]
    assert (found["description"], found["latest_version"]) == ("A pad for everybody", "1.0.0")


def test_releases_are_listed_with_the_highest_version_first(acme: Acme) -> None:
    for number, version in enumerate(("1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1")):
        acme.publish(version, chain(f"app{number}", 1))
    listed = acme.ask("GET", f"{acme.base}/releases").json()
    assert [each["version"] for each in listed] == ["2.0.0-rc.1", "1.10.0", "1.9.0", "1.0.0"]
    assert len(acme.ask("GET", f"{acme.base}/releases?limit=2").json()) == 2
    assert acme.ask("GET", f"{acme.base}/releases?limit=0").ref == "bad-request"
    assert versions(acme, "*") == ["1.10.0", "1.9.0", "1.0.0"]
    assert versions(acme, "1.9") == ["1.10.0", "1.9.0"]
    assert versions(acme, "=1.9.0") == ["1.9.0"]
    assert versions(acme, "%3E=2.0.0-a") == ["2.0.0-rc.1"]
    assert acme.ask("GET", f"{acme.base}/versions/1.x.0").ref == "bad-requirement"


def test_a_release_is_shown_with_all_that_its_publisher_said(acme: Acme) -> None:
    said = {"revision": "c" * 40, "repository": "https://code.example/web", "labels": ["a"], "license": "MIT"}
    acme.publish("1.0.0", chain("app"), metadata=said)
    shown = acme.ask("GET", f"{acme.base}/releases/1").json()
    assert shown["release"]["revision"] == "c" * 40
    assert shown["outputs"][0]["attribute"] == ATTRIBUTE
    assert shown["outputs"][0]["available"] is True
    assert (shown["license"], shown["repository"]) == ("MIT", "https://code.example/web")
    assert shown["source_url"].startswith(acme.hub.url)


def test_a_yanked_release_is_chosen_by_no_range_and_refused_by_name(acme: Acme) -> None:
    for version in ("1.0.0", "1.1.0"):
        acme.publish(version, chain(f"app{version}", 1))
    place = f"{acme.base}/releases/1.1.0/yank"
    assert acme.ask("PUT", place, json={"reason": "broken"}).status == 403
    yanked = acme.hub.as_admin("PUT", place, json={"reason": "broken"})
    assert yanked["yank_reason"] == "broken"
    assert acme.resolve("1").json()["version"] == "1.0.0"
    refused = acme.resolve("=1.1.0")
    assert (refused.status, refused.ref) == (410, "release-yanked")
    assert "broken" in refused.json()["error"]["message"]
    listed = acme.ask("GET", f"{acme.base}/releases").json()
    assert [bool(each["yanked_at"]) for each in listed] == [True, False]
    assert acme.ask("GET", f"{acme.base}/releases/=1.1.0").json()["release"]["yank_reason"] == "broken"
    acme.hub.as_admin("DELETE", place)
    assert acme.resolve("1").json()["version"] == "1.1.0"


def test_an_address_that_was_locked_goes_on_working_after_a_yank(acme: Acme) -> None:
    acme.publish("1.0.0", chain("app"))
    locked = acme.ask("GET", f"/f/{acme.organization}/web/*").headers["location"]
    acme.hub.as_admin("PUT", f"{acme.base}/releases/=1.0.0/yank", json={})
    assert acme.ask("GET", f"/f/{acme.organization}/web/*").status == 404
    assert acme.ask("GET", f"/f/{acme.organization}/web/=1.0.0").status == 410
    assert acme.ask("GET", locked.removeprefix(acme.hub.url)).status == 200


def test_a_yank_for_security_ends_the_closure_tokens_of_the_release(acme: Acme) -> None:
    closure = chain("app")
    acme.publish("1.0.0", closure)
    token = acme.resolve("1").json()["token"]
    assert acme.narinfo(closure[0], token=token).status == 200
    acme.hub.as_admin("PUT", f"{acme.base}/releases/1.0.0/yank", json={"security": True})
    wait_for(lambda: acme.narinfo(closure[0], token=token).status == 401)


def test_a_deleted_project_is_gone_with_what_it_said(acme: Acme) -> None:
    closure = chain("app")
    acme.publish("1.0.0", closure)
    assert acme.ask("DELETE", acme.base).status == 403
    acme.hub.as_admin("DELETE", acme.base)
    assert acme.ask("GET", acme.base).status == 404
    assert acme.narinfo(closure[0]).status == 404
    assert acme.ask("GET", f"/{closure[0].path.hash_part}.narinfo").status == 404
    acme.add_project("web")
    acme.publish("1.0.0", closure)


@pytest.mark.parametrize("requirement", ["1", "v1.0.0", "=v1.0.0", "1.0.0.tar.gz", "%2A", "%5E1", "~1.0"])
def test_an_input_is_found_however_nix_writes_its_requirement(acme: Acme, requirement: str) -> None:
    acme.publish("1.0.0", chain("app"))
    assert acme.ask("GET", f"/f/{acme.organization}/WEB/{requirement}").status == 307
    head = acme.ask("HEAD", f"/f/{acme.organization}/web/{requirement}")
    assert (head.status, head.body) == (307, b"")
