"""A push: what is missing is asked once, NARs come in any number of requests, and all of it joins the cache
at once or not at all.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import SecretKey
from tests.hub.process import Answer, Hub
from tests.hub.publishing import Acme, chain
from tests.hub.test_publishing_upstreams import UPSTREAM, upstream_narinfo
from tests.running.closures import ATTRIBUTE, Member, member


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def missing(acme: Acme, closure: Sequence[Member], **more: Any) -> Answer:
    names = [each.path.base_name for each in closure]
    return acme.ask("POST", f"{acme.base}/pushes/missing", json={"paths": names, **more})


def names(closure: Sequence[Member]) -> list[str]:
    return sorted(each.path.base_name for each in closure)


@dataclass
class Push:
    """One push, opened with these paths."""

    acme: Acme
    closure: Sequence[Member]
    declared: dict[str, Any] = field(default_factory=dict)
    place: str = ""

    def open(self, **said: Any) -> "Push":
        paths = [msgspec.to_builtins(each.declared) | said for each in self.closure]
        answer = self.acme.ask("POST", f"{self.acme.base}/pushes", json={"paths": paths})
        assert answer.status == 201, answer.body
        self.place = f"{self.acme.base}/pushes/{answer.json()['id']}"
        self.declared = answer.json()["declared"]
        return self

    def upload(self, *closure: Member) -> Answer:
        return self.acme.ask("POST", f"{self.place}/nars", body=b"".join(each.frame for each in closure))

    def finish(self) -> Answer:
        return self.acme.ask("POST", f"{self.place}/finish")


def push(acme: Acme, closure: Sequence[Member]) -> Answer:
    opened = Push(acme, closure).open()
    wanted = [each for each in closure if each.path.base_name in opened.declared["missing"]]
    if wanted:
        assert opened.upload(*wanted).status == 200
    return opened.finish()


def test_a_push_joins_the_cache_all_at_once(acme: Acme) -> None:
    closure = chain("pushed", 3, os.urandom(50))
    assert sorted(missing(acme, closure).json()["missing"]) == names(closure)
    opened = Push(acme, closure).open()
    assert opened.declared["missing"] == names(closure)
    assert opened.upload(*closure[:1]).status == 200
    assert opened.upload(*closure[1:]).status == 200
    assert [acme.narinfo(each).status for each in closure] == [404] * 3
    assert opened.finish().json() == {"paths": 3}
    assert [acme.narinfo(each).status for each in closure] == [200] * 3
    assert missing(acme, closure).json() == {"missing": [], "upstream_keys": {}}
    # Whoever lost the answer asks again.
    assert opened.finish().json() == {"paths": 0}


def test_what_did_not_arrive_is_named_and_nothing_is_kept(acme: Acme) -> None:
    closure = chain("cut", 3, os.urandom(50))
    opened = Push(acme, closure).open()
    opened.upload(closure[0], closure[2])
    refused = opened.finish()
    assert (refused.status, refused.ref) == (409, "push-incomplete")
    assert closure[1].path.base_name in refused.json()["error"]["context"]["missing"]
    assert acme.narinfo(closure[0]).status == 404
    opened.upload(closure[1])
    assert opened.finish().status == 200


def test_what_came_to_a_push_that_was_cut_off_need_not_come_to_the_next(acme: Acme) -> None:
    closure = chain("anew", 3, os.urandom(50))
    assert Push(acme, closure).open().upload(*closure[:2]).status == 200
    again = Push(acme, closure).open()
    assert again.declared == {"missing": names(closure[2:]), "present": 2, "pinned": 0}
    assert acme.narinfo(closure[0]).status == 404
    assert again.upload(closure[2]).status == 200
    assert again.finish().json() == {"paths": 3}
    assert [acme.narinfo(each).status for each in closure] == [200] * 3


def test_what_came_to_a_push_counts_for_the_same_words_of_the_same_person_alone(acme: Acme) -> None:
    closure = chain("unfinished", 3, os.urandom(50))
    first = Push(acme, closure).open()
    assert first.upload(*closure).status == 200
    colleague = Acme.__new__(Acme)
    another = acme.hub.make_member(acme.organization, f"{acme.organization}-colleague")
    colleague.__dict__.update(acme.__dict__, member=another)
    assert Push(colleague, closure).open().declared["missing"] == names(closure)
    acme.add_project("elsewhere")
    elsewhere = Acme.__new__(Acme)
    elsewhere.__dict__.update(acme.__dict__, project="elsewhere")
    assert Push(elsewhere, closure).open().declared["missing"] == names(closure)
    # Of what a path refers to the NAR was searched for; other words were never held against it.
    assert Push(acme, closure).open(references=[]).declared["missing"] == names(closure[1:])
    assert acme.ask("DELETE", first.place).status in (200, 204)
    assert Push(acme, closure).open().declared["missing"] == names(closure[1:])


def test_references_that_are_nowhere_are_no_closure(acme: Acme) -> None:
    closure = chain("rootless", 2, os.urandom(50))
    opened = Push(acme, closure[1:]).open()
    opened.upload(closure[1])
    assert opened.finish().ref == "push-incomplete"


def test_a_push_upon_another_declares_only_what_is_new(acme: Acme) -> None:
    closure = chain("growing", 4, os.urandom(50))
    assert push(acme, closure[:2]).json() == {"paths": 2}
    assert missing(acme, closure).json()["missing"] == [each.path.base_name for each in closure[2:]]
    assert push(acme, closure[2:]).json() == {"paths": 2}


def test_what_another_project_of_the_organization_has_needs_no_upload(acme: Acme) -> None:
    closure = chain("shared", 3, os.urandom(50))
    push(acme, closure)
    acme.add_project("other")
    other = Acme.__new__(Acme)
    other.__dict__.update(acme.__dict__, project="other")
    assert len(missing(other, closure).json()["missing"]) == 3
    opened = Push(other, closure[2:]).open()
    assert opened.declared == {"missing": [], "present": 1, "pinned": 0}
    assert opened.finish().json() == {"paths": 3}
    assert [other.narinfo(each).status for each in closure] == [200] * 3


def test_what_only_others_have_is_missing(acme: Acme) -> None:
    closure = chain("hidden", 2, os.urandom(50))
    push(acme, closure)
    stranger = Acme(acme.hub)
    assert len(missing(stranger, closure).json()["missing"]) == 2
    assert Push(stranger, closure).open().declared["missing"] == names(closure)
    assert stranger.ask("POST", f"{acme.base}/pushes/missing", json={"paths": []}).status == 404


def test_what_an_upstream_has_is_pinned_where_the_organization_says_so(acme: Acme) -> None:
    key = SecretKey.generate("upstream-1")
    path = member("glibc", os.urandom(8))
    place = f"/api/v1/organizations/{acme.organization}/upstreams"
    acme.hub.as_admin("POST", place, json={"url": UPSTREAM, "public_keys": [str(key.public)]})
    assert missing(acme, [path]).json()["upstream_keys"] == {UPSTREAM: [str(key.public)]}
    opened = Push(acme, [path]).open(upstream=UPSTREAM, upstream_narinfo=upstream_narinfo(path, key))
    assert opened.declared == {"missing": [], "present": 0, "pinned": 1}
    assert opened.finish().json() == {"paths": 1}
    assert missing(acme, [path]).json()["missing"] == []


def test_an_output_becomes_available_by_a_push(acme: Acme) -> None:
    closure = chain("recorded", 3, os.urandom(50))
    filling = acme.open("1.0.0")
    filling.declare([], {ATTRIBUTE: closure[-1]}, required=False)
    filling.source()
    assert filling.finish().status == 200
    assert acme.resolve("1").ref == "output-not-available"
    push(acme, closure)
    assert acme.resolve("1").status == 200


def test_the_publisher_signs_where_the_organization_keeps_its_keys(acme: Acme) -> None:
    key = SecretKey.generate("own-1")
    place = f"/api/v1/organizations/{acme.organization}/keys"
    acme.hub.as_admin("POST", place, json={"public_key": str(key.public)})
    path = member("app", os.urandom(8))
    assert push(acme, [path]).status == 200
    assert missing(acme, [path]).json()["missing"] == []
    assert missing(acme, [path], signing_keys=["own-1"]).json()["missing"] == [path.path.base_name]
    assert missing(acme, [path], signing_keys=["none"]).ref == "signing-key-unknown"
    info = parse_narinfo(acme.narinfo(path).body.decode()).info
    opened = Push(acme, [path]).open(signatures=[key.sign(info.fingerprint())])
    assert opened.finish().status == 200
    assert missing(acme, [path], signing_keys=["own-1"]).json()["missing"] == []
    (hub_key,) = [
        each["public_key"].partition(":")[0]
        for each in acme.hub.as_admin("GET", place)
        if each["held_by"] == "hub"
    ]
    acme.hub.as_admin("DELETE", f"{place}/{hub_key}?signatures=keep")
    assert missing(acme, [path]).ref == "signing-key-missing"


def test_a_push_is_no_publication_and_the_other_way_round(acme: Acme) -> None:
    opened = Push(acme, chain("kinds", 1, os.urandom(8))).open()
    as_publication = opened.place.replace("/pushes/", "/publications/")
    for method, place in (("GET", as_publication), ("POST", f"{as_publication}/finish")):
        assert acme.ask(method, place).ref == "not-found"
    filling = acme.open("3.0.0")
    assert (
        acme.ask("POST", filling.place.replace("/publications/", "/pushes/") + "/finish").ref == "not-found"
    )
    outputs = [{"attribute": ATTRIBUTE, "store_path": "/nix/store/" + "0" * 32 + "-app"}]
    refused = acme.ask("POST", f"{acme.base}/pushes", json={"paths": [], "outputs": outputs})
    assert refused.ref == "bad-request"


def test_an_abandoned_push_takes_nothing_more(acme: Acme) -> None:
    closure = chain("gone", 1, os.urandom(8))
    opened = Push(acme, closure).open()
    assert acme.ask("DELETE", opened.place).status == 204
    assert opened.upload(*closure).ref == opened.finish().ref == "not-found"


@pytest.mark.parametrize("name", ["", "app", "../../x", "0" * 32 + "-", "/nix/store/" + "0" * 32 + "-app"])
def test_a_question_about_what_is_no_path_is_refused(acme: Acme, name: str) -> None:
    answer = acme.ask("POST", f"{acme.base}/pushes/missing", json={"paths": [name]})
    assert (answer.status, answer.ref) == (422, "bad-path-info")
