"""A release becomes visible as a whole or not at all, whoever publishes and whatever fails."""

import threading
from typing import Any

import pytest

from piste.nix.signature import PublicKey
from piste.wire.manifest import decode_manifest
from piste.wire.statement import decode_statement
from tests.hub.process import Answer, Hub
from tests.hub.publishing import REVISION, Acme, chain, stored_files
from tests.running.closures import ATTRIBUTE, make_source, member


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def test_a_release_is_invisible_until_it_is_finished_and_whole_after_that(acme: Acme) -> None:
    closure = chain("app")
    filling = acme.open()
    assert filling.declare(closure, {ATTRIBUTE: closure[-1]}) == {
        "missing": sorted(each.path.base_name for each in closure),
        "present": 0,
        "pinned": 0,
    }
    filling.upload_missing(closure)
    assert filling.source().status == 204
    assert acme.ask("GET", f"{acme.base}/releases").json() == []
    assert acme.resolve("*").ref == "no-release-matches"
    assert acme.narinfo(closure[0]).status == 404
    published = filling.finish().json()
    assert published["created"] and published["outputs"] == {ATTRIBUTE: str(closure[-1].path)}
    assert published["flakeref_exact"] == f"{acme.organization}/web/=1.0.0"
    assert [acme.narinfo(each).status for each in closure] == [200, 200, 200]


def test_the_manifest_and_the_statement_of_an_output_are_made_at_publication(acme: Acme) -> None:
    closure = chain("app")
    acme.publish("1.0.0", closure)
    resolved = acme.resolve("1").json()
    data = acme.ask("GET", f"{acme.cache}/manifest/{resolved['manifest'][7:]}").body
    manifest = decode_manifest(data, resolved["manifest"])
    assert [entry.path for entry in manifest.paths] == [each.path.base_name for each in closure]
    statement = decode_statement(resolved["statement"])
    assert (statement.sequence, statement.store_path) == (1, str(closure[-1].path))
    keys = acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}")["public_keys"]
    assert PublicKey.parse(keys[0]).verify(resolved["statement"], resolved["statement_signatures"][0])


def test_the_sequence_of_a_project_grows_with_every_release(acme: Acme) -> None:
    for number, version in enumerate(("2.0.0", "1.0.0", "2.1.0"), 1):
        acme.publish(version, chain("app", content=version.encode()))
        statement = decode_statement(acme.resolve(f"={version}").json()["statement"])
        assert statement.sequence == number


def test_an_output_with_a_missing_path_is_refused_and_the_chain_to_it_named(acme: Acme) -> None:
    closure = chain("app")
    filling = acme.open()
    filling.declare(closure, {ATTRIBUTE: closure[-1]})
    filling.upload(closure[1].frame, closure[2].frame)
    filling.source()
    answer = filling.finish()
    assert (answer.status, answer.ref) == (409, "output-incomplete")
    assert answer.json()["error"]["context"]["missing-1"] == " → ".join(
        each.path.base_name for each in reversed(closure)
    )
    assert acme.narinfo(closure[1]).status == 404
    filling.upload(closure[0].frame)
    assert filling.finish().status == 200


def test_a_reference_that_nobody_declared_is_missing(acme: Acme) -> None:
    closure = chain("app")
    filling = acme.open()
    filling.declare(closure[1:], {ATTRIBUTE: closure[-1]})
    filling.upload_missing(closure)
    filling.source()
    answer = filling.finish()
    assert answer.ref == "output-incomplete"
    assert closure[0].path.base_name in answer.json()["error"]["context"]["missing-1"]


def test_an_output_that_is_not_required_is_recorded_and_becomes_available_by_itself(acme: Acme) -> None:
    built, other = chain("built"), chain("other")
    filling = acme.open()
    filling.declare(built, {ATTRIBUTE: built[-1]})
    filling.declare(other, {"packages.aarch64-linux.x": other[-1]}, required=False)
    filling.upload(*(each.frame for each in [*built, *other[:2]]))
    filling.source()
    assert list(filling.finish().json()["outputs"]) == [ATTRIBUTE]
    refused = acme.resolve("*", "packages.aarch64-linux.x")
    assert (refused.status, refused.ref) == (404, "output-not-available")
    assert refused.json()["error"]["context"]["missing"] == "1"
    later = acme.open("1.0.1")
    assert later.declare(other, {"x": other[-1]})["missing"] == [other[2].path.base_name]
    later.upload(other[2].frame)
    later.source()
    assert later.finish().status == 200
    available = acme.resolve("=1.0.0", "packages.aarch64-linux.x")
    assert available.json()["store_path"] == str(other[-1].path)
    assert decode_statement(available.json()["statement"]).sequence == 1


def test_what_the_project_has_is_not_asked_for_again(acme: Acme) -> None:
    closure = chain("app")
    acme.publish("1.0.0", closure)
    filling = acme.open("1.0.1")
    assert filling.declare(closure, {ATTRIBUTE: closure[-1]}) == {"missing": [], "present": 3, "pinned": 0}
    filling.source()
    assert filling.finish().status == 200


def test_a_rebuild_that_gives_other_bytes_is_no_conflict_when_nothing_is_uploaded(acme: Acme) -> None:
    closure = chain("app")
    acme.publish("1.0.0", closure)
    rebuilt = member("app-0", ("app", 0, b""), b"built at another time")
    assert rebuilt.path == closure[0].path
    assert rebuilt.nar_hash != closure[0].nar_hash
    again = [rebuilt, *closure[1:]]
    filling = acme.open("1.0.1")
    assert filling.declare(again, {ATTRIBUTE: closure[-1]})["missing"] == []
    filling.source()
    assert filling.finish().status == 200
    manifest = acme.resolve("=1.0.1").json()["manifest"]
    assert manifest == acme.resolve("=1.0.0").json()["manifest"]


def test_what_another_project_of_the_organization_has_need_not_be_uploaded(acme: Acme) -> None:
    acme.add_project("other")
    closure = chain("app")
    acme.publish("1.0.0", closure, project="other")
    assert acme.narinfo(closure[0]).status == 404
    filling = acme.open()
    assert filling.declare(closure, {ATTRIBUTE: closure[-1]})["missing"] == []
    filling.source()
    assert filling.finish().status == 200
    assert acme.narinfo(closure[0]).status == 200


def test_what_another_organization_has_is_asked_for_like_what_nobody_has(acme: Acme) -> None:
    closure = chain("app")
    acme.publish("1.0.0", closure)
    stranger = Acme(acme.hub)
    filling = stranger.open()
    assert len(filling.declare(closure, {ATTRIBUTE: closure[-1]})["missing"]) == 3
    filling.source()
    assert filling.finish().ref == "output-incomplete"


def test_other_content_under_a_path_of_the_organization_is_refused(acme: Acme) -> None:
    acme.add_project("other")
    first = member("app", "seed", b"one")
    second = member("app", "seed", b"two")
    fillings = []
    for project, one in (("web", first), ("other", second)):
        filling = acme.open(project=project)
        filling.declare([one], {ATTRIBUTE: one})
        filling.upload_missing([one])
        filling.source()
        fillings.append(filling)
    assert fillings[0].finish().status == 200
    answer = fillings[1].finish()
    assert (answer.status, answer.ref) == (409, "path-conflict")
    assert acme.ask("GET", f"/api/v1/projects/{acme.organization}/other/releases").json() == []


def test_the_same_content_again_changes_nothing_and_other_content_is_refused(acme: Acme) -> None:
    closure = chain("app")
    first = acme.publish("1.0.0", closure)
    again = acme.publish("1.0.0", closure)
    assert (again["created"], again["release_id"]) == (False, first["release_id"])
    other = chain("app", content=b"other")
    filling = acme.open("1.0.0")
    assert filling.opened["published"] is True
    filling.declare(other, {ATTRIBUTE: other[-1]})
    filling.upload_missing(other)
    filling.source()
    answer = filling.finish()
    assert (answer.status, answer.ref) == (409, "content-differs")
    assert acme.resolve("=1.0.0").json()["store_path"] == str(closure[-1].path)


def test_a_lost_answer_to_finish_can_be_asked_for_again(acme: Acme) -> None:
    closure = chain("app")
    filling = acme.open()
    filling.declare(closure, {ATTRIBUTE: closure[-1]})
    filling.upload_missing(closure)
    filling.source()
    first, again = filling.finish().json(), filling.finish().json()
    assert (again["release_id"], again["created"]) == (first["release_id"], False)
    assert filling.send(closure, {}).ref == "publication-closed"


def test_of_two_publishers_of_one_version_one_makes_the_release(acme: Acme) -> None:
    fillings = []
    for content in (b"one", b"two"):
        closure = chain("app", content=content)
        filling = acme.open()
        filling.declare(closure, {ATTRIBUTE: closure[-1]})
        filling.upload_missing(closure)
        filling.source()
        fillings.append(filling)
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda each=each: answers.append(each.finish())) for each in fillings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, 409]
    assert [each["version"] for each in acme.ask("GET", f"{acme.base}/releases").json()] == ["1.0.0"]
    assert acme.resolve("*").status == 200


def test_machines_that_name_the_same_stage_fill_one_release(acme: Acme) -> None:
    x86, arm = chain("x86"), chain("arm")
    first = acme.open(stage="run-7")
    first.declare(x86, {"packages.x86_64-linux.x": x86[-1]})
    first.upload_missing(x86)
    second = acme.open(stage="run-7")
    assert second.opened["id"] == first.opened["id"]
    second.declare(arm, {"packages.aarch64-linux.x": arm[-1]})
    second.upload_missing(arm)
    second.source()
    assert sorted(second.finish().json()["outputs"]) == [
        "packages.aarch64-linux.x",
        "packages.x86_64-linux.x",
    ]


def test_a_stage_is_joined_only_for_the_same_version_and_metadata(acme: Acme) -> None:
    acme.open("1.0.0", stage="run-7")
    asked: dict[str, Any] = {"version": "1.0.1", "stage": "run-7", "metadata": {"revision": REVISION}}
    assert acme.ask("POST", f"{acme.base}/publications", json=asked).ref == "content-differs"


def test_two_machines_that_built_another_path_for_one_output_are_told(acme: Acme) -> None:
    one, two = chain("one"), chain("two")
    filling = acme.open(stage="run-7")
    filling.declare(one, {ATTRIBUTE: one[-1]})
    assert filling.send(two, {ATTRIBUTE: two[-1]}).ref == "content-differs"


def test_an_abandoned_publication_is_gone(acme: Acme) -> None:
    filling = acme.open()
    assert acme.ask("DELETE", filling.place).status == 204
    assert acme.ask("GET", filling.place).status == 404
    assert filling.finish().status == 404


def test_a_publication_belongs_to_its_project_alone(acme: Acme) -> None:
    filling = acme.open()
    acme.add_project("other")
    elsewhere = filling.place.replace("/web/", "/other/")
    assert acme.ask("GET", elsewhere).status == 404
    stranger = Acme(acme.hub)
    assert stranger.ask("GET", filling.place).status == 404


def test_a_visibility_that_is_not_the_projects_is_refused(acme: Acme) -> None:
    asked = {"version": "1.0.0", "visibility": "public"}
    assert acme.ask("POST", f"{acme.base}/publications", json=asked).ref == "visibility-differs"


@pytest.mark.parametrize(
    "asked",
    [
        {"version": "1.0"},
        {"version": "1.2.3", "rolling": True},
        {"version": "1.2.3+rev-" + "a" * 40, "rolling": True},
        {"version": "0.1.7-x+rev-" + "a" * 40, "rolling": True},
    ],
)
def test_a_version_that_is_none_is_refused(acme: Acme, asked: dict[str, Any]) -> None:
    assert acme.ask("POST", f"{acme.base}/publications", json=asked).ref == "bad-version"


def test_a_tag_may_begin_with_a_v_and_a_rolling_version_names_its_commit(acme: Acme) -> None:
    assert acme.open("v1.2.3").opened["version"] == "1.2.3"
    rolling = f"0.1.7+rev-{REVISION}"
    assert acme.open(rolling, rolling=True).opened["version"] == rolling


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../../../etc/passwd"},
        {"path": "a" * 32},
        {"path": "0" * 32 + "-../x"},
        {"nar_hash": "sha256:../../x"},
        {"nar_hash": "md5:" + "0" * 32},
        {"nar_size": 0},
        {"nar_size": -1},
        {"references": ["/nix/store/x"]},
        {"references": ["0" * 32 + "-a/../../b"]},
        {"deriver": "../x.drv"},
        {"signatures": ["no signature"]},
        {"content_address": "fixed:\nSig: x"},
    ],
)
def test_a_declaration_that_tries_to_leave_its_place_is_refused(acme: Acme, change: dict[str, Any]) -> None:
    one = chain("app", 1)[0]
    declared = {"path": one.path.base_name, "nar_hash": one.nar_hash.nix32(), "nar_size": len(one.nar)}
    message = {"paths": [{**declared, "references": [], **change}]}
    answer = acme.ask("POST", f"{acme.open().place}/declarations", json=message)
    assert (answer.status, answer.ref) == (422, "bad-path-info")


def test_a_release_needs_a_source_and_has_one_only(acme: Acme) -> None:
    closure = chain("app")
    filling = acme.open()
    filling.declare(closure, {ATTRIBUTE: closure[-1]})
    filling.upload_missing(closure)
    assert filling.finish().ref == "bad-source"
    assert filling.source(make_source("one")).status == 204
    assert filling.source(make_source("one")).status == 204
    assert filling.source(make_source("two")).ref == "content-differs"


def test_nothing_is_left_in_the_spool(acme: Acme) -> None:
    acme.publish("1.0.0", chain("app"))
    assert stored_files(acme.hub, "spool") == []
