"""Resolve-only tokens for a fleet: made together, all or none, and looked at before; on both engines."""

from typing import Any

import pytest

from tests.hub.process import Answer, Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE


@pytest.fixture(scope="module")
def acme(shared_hub: Hub) -> Acme:
    made = Acme(shared_hub)
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        made.publish(version, chain("web", 1, version.encode()))
    return made


def ask(acme: Acme, *tokens: dict[str, Any], token: str | None = None, **more: Any) -> Answer:
    common = {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": ATTRIBUTE}
    asked = {"tokens": [common | each for each in tokens], **more}
    place = f"/api/v1/organizations/{acme.organization}/tokens/batch"
    return acme.hub.request("POST", place, token=token or acme.hub.admin, json=asked)


def held(acme: Acme) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = acme.hub.as_admin(
        "GET", f"/api/v1/organizations/{acme.organization}/tokens"
    )
    return [each for each in found if each["kind"] == "resolve-only"]


def test_each_host_gets_a_token_of_its_own(acme: Acme) -> None:
    answer = ask(
        acme,
        {"description": "web-1"},
        {"description": "web-2", "requirement": ">=1, <3", "minimum_version": "1.1.0", "expires_in": 60},
    )
    assert answer.status == 201 and answer.headers["cache-control"] == "no-store"
    first, second = answer.json()
    assert (first["description"], first["allowed_versions"]) == ("web-1", ["1.1.0", "1.0.0"])
    assert second["allowed_versions"] == ["2.0.0", "1.1.0"]
    assert len({first["token"], second["token"]}) == 2
    for made, version in ((first, "1.1.0"), (second, "2.0.0")):
        asked = made["requirement"].replace(" ", "%20").replace(">", "%3E").replace("<", "%3C")
        found = acme.resolve(asked, token=made["token"])
        assert (found.status, found.json()["version"]) == (200, version)
    assert {first["id"], second["id"]} <= {each["id"] for each in held(acme)}


def test_a_dry_run_tells_what_each_would_allow_and_makes_nothing(acme: Acme) -> None:
    before = len(held(acme))
    answer = ask(acme, {"description": "a"}, {"description": "b", "requirement": "7"}, dry_run=True)
    assert answer.status == 200
    assert [each["allowed_versions"] for each in answer.json()] == [["1.1.0", "1.0.0"], []]
    assert {(each["id"], each["token"]) for each in answer.json()} == {("", "")}
    assert len(held(acme)) == before


@pytest.mark.parametrize(
    ("wrong", "ref"),
    [
        ({"kind": "device", "project": None, "requirement": None, "attribute": None}, "bad-request"),
        ({"kind": "root"}, "bad-request"),
        ({"description": ""}, "bad-request"),
        ({"requirement": "one"}, "bad-requirement"),
        ({"attribute": "a..b"}, "bad-reference"),
        ({"minimum_version": "x"}, "bad-version"),
        ({"expires_in": 0}, "bad-request"),
        ({"project": "other"}, "not-found"),
        ({"project": "elsewhere/web"}, "not-found"),
        ({"project": "a/b/c"}, "bad-name"),
        ({"person": "ada"}, "bad-request"),
    ],
)
def test_one_that_is_wrong_stops_all_and_is_named(acme: Acme, wrong: dict[str, Any], ref: str) -> None:
    before = len(held(acme))
    answer = ask(acme, {"description": "right"}, {"description": "wrong"} | wrong, {"description": "also"})
    assert answer.ref == ref
    assert answer.json()["error"]["context"]["number"] == "2"
    assert len(held(acme)) == before


def test_none_and_too_many_are_refused(acme: Acme) -> None:
    assert ask(acme).ref == "bad-request"
    assert ask(acme, *({"description": "x"} for _ in range(5001))).ref == "bad-request"


def test_a_fleet_of_a_thousand_is_one_request_and_one_entry_of_the_log(acme: Acme) -> None:
    before = len(held(acme))
    answer = ask(acme, *({"description": f"host-{number}"} for number in range(1000)))
    assert answer.status == 201
    assert len({each["token"] for each in answer.json()}) == 1000
    assert len(held(acme)) == before + 1000
    place = f"/api/v1/organizations/{acme.organization}/audit"
    log = acme.hub.request("GET", place, token=acme.hub.admin).body.decode().splitlines()
    assert "1000 resolve-only tokens" in log[-1]


def test_members_and_strangers_make_none(acme: Acme) -> None:
    assert ask(acme, {"description": "x"}, token=acme.member).status == 403
    assert ask(acme, {"description": "x"}, token=Acme(acme.hub).member).status == 404
