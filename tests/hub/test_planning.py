"""One request tells a host all that it needs; what it says of itself makes the answer shorter and nothing
else.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from piste.lib.zstd import zstd
from piste.wire.manifest import Manifest, decode_manifest
from piste.wire.plan import (
    PackedSources,
    PlanAnswer,
    pack_paths,
    unpack_manifest,
)
from piste.wire.runs import places_of
from piste.wire.sources import unpack_sources
from tests.hub.process import Answer, Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE, Member, member


@pytest.fixture(scope="module")
def acme(shared_hub: Hub) -> Acme:
    """Two releases of a closure of five whose upper two paths differ."""
    made = Acme(shared_hub)
    below = chain("base", 3)
    for version in ("1.0.0", "1.1.0"):
        made.publish(version, [*below, *above(below, version)])
    return made


def above(below: Sequence[Member], version: str) -> list[Member]:
    library = member("library", version, version.encode() * 100, [below[-1].path])
    return [library, member("system", version, version.encode(), [library.path, below[0].path])]


def ask(acme: Acme, requirement: str, have: Sequence[str] = (), **more: Any) -> Answer:
    query = "&".join(f"have={digest.removeprefix('sha256:')}" for digest in have)
    attribute = more.pop("attribute", ATTRIBUTE)
    return acme.ask("GET", f"{acme.base}/plan/{requirement}/{attribute}?{query}", **more)


def plan(acme: Acme, requirement: str, have: Sequence[str] = (), **more: Any) -> PlanAnswer:
    return msgspec.json.decode(ask(acme, requirement, have, **more).body, type=PlanAnswer)


def manifest_of(acme: Acme, requirement: str) -> tuple[str, Manifest]:
    digest = acme.resolve(requirement).json()["manifest"]
    data = acme.ask("GET", f"{acme.cache}/manifest/{digest.removeprefix('sha256:')}").body
    return digest, decode_manifest(data, digest)


def without_token(answer: PlanAnswer) -> PlanAnswer:
    resolution = msgspec.structs.replace(answer.resolution, token=None, token_expires_at=None)
    return msgspec.structs.replace(answer, resolution=resolution)


def test_a_plan_holds_what_five_requests_told_before(acme: Acme) -> None:
    answer = plan(acme, "1")
    resolved = acme.resolve("1").json()
    told = msgspec.to_builtins(answer.resolution)
    for name in ("reference", "version", "store_path", "manifest", "statement", "statement_signatures"):
        assert told[name] == resolved[name]
    assert told["token"].startswith("piste_closure_")
    digest, manifest = manifest_of(acme, "1")
    assert unpack_manifest(answer.manifest, digest, {}) == manifest
    address = f"{acme.cache}/manifest/{digest.removeprefix('sha256:')}/sources"
    listed = acme.ask("GET", address, token=told["token"]).json()["sources"]
    sources = unpack_sources(answer.sources, manifest)
    assert [msgspec.to_builtins(sources[place]) for place in range(5)] == listed
    assert {"file_size", "signatures"} <= listed[0].keys()


def test_a_host_that_names_what_it_runs_is_told_only_what_is_new(acme: Acme) -> None:
    old, before = manifest_of(acme, "=1.0.0")
    digest, manifest = manifest_of(acme, "1")
    answer = plan(acme, "1", [old])
    assert answer.manifest.base == old
    assert len(answer.manifest.nar_sizes) == 2
    assert unpack_manifest(answer.manifest, digest, {old: before}) == manifest
    assert places_of(answer.sources.places) == [3, 4]


def test_a_host_that_runs_no_release_tells_what_is_in_its_store(acme: Acme) -> None:
    digest, manifest = manifest_of(acme, "1")
    there = [entry.path[:32] for entry in manifest.paths[:4]]
    body = {"paths": pack_paths([*there, "0" * 32])}
    answer = acme.ask("POST", f"{acme.base}/plan/1/{ATTRIBUTE}", json=msgspec.to_builtins(body))
    said = msgspec.json.decode(answer.body, type=PlanAnswer)
    assert places_of(said.sources.places) == [4]
    assert unpack_manifest(said.manifest, digest, {}) == manifest


@pytest.mark.parametrize("body", [b"", b"{}", b'{"paths":""}', b'{"have":["x"],"paths":"////////"}'])
def test_what_a_host_says_of_itself_may_be_nothing_or_nonsense(acme: Acme, body: bytes) -> None:
    answer = acme.ask("POST", f"{acme.base}/plan/1/{ATTRIBUTE}", body=body)
    assert places_of(msgspec.json.decode(answer.body, type=PlanAnswer).sources.places) == [0, 1, 2, 3, 4]


def test_a_host_that_is_where_it_should_be_gets_no_answer_and_no_token(acme: Acme) -> None:
    etag = ask(acme, "1").headers["etag"]
    again = ask(acme, "1", headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
    assert ask(acme, "1.0.0", headers={"If-None-Match": etag}).status == 304
    assert ask(acme, "=1.0.0", headers={"If-None-Match": etag}).status == 200


def test_the_sources_of_some_places_are_asked_for_by_their_numbers(acme: Acme) -> None:
    answer = plan(acme, "1")
    token = answer.resolution.token
    digest, manifest = manifest_of(acme, "1")
    address = f"{acme.cache}/manifest/{digest.removeprefix('sha256:')}/sources?places="
    some = msgspec.json.decode(acme.ask("GET", address + "1,3-4", token=token).body, type=PackedSources)
    every = unpack_sources(answer.sources, manifest)
    assert unpack_sources(some, manifest) == {place: every[place] for place in (1, 3, 4)}
    assert acme.ask("GET", address + "5", token=token).status == 404
    assert acme.ask("GET", address + "x", token=token).ref == "bad-request"
    # However large a closure is, an answer is not.
    assert acme.ask("GET", address + "0-4095", token=token).status == 404
    assert acme.ask("GET", address + "0-4096", token=token).ref == "bad-request"


def test_an_answer_is_zstd_for_who_takes_that(acme: Acme) -> None:
    answer = ask(acme, "1", headers={"Accept-Encoding": "zstd"})
    assert answer.headers["content-encoding"] == "zstd"
    plain = msgspec.json.decode(zstd.decompress(answer.body), type=PlanAnswer)
    assert without_token(plain) == without_token(plan(acme, "1"))


def test_naming_what_one_may_not_resolve_is_like_naming_nothing(shared_hub: Hub) -> None:
    acme, foreign = Acme(shared_hub), Acme(shared_hub)
    below = chain("base", 3)
    for version in ("0.9.0", "1.3.0", "1.4.0", "1.4.1", "1.5.0"):
        acme.publish(version, [*below, *above(below, version)])
    acme.publish("1.4.2", [*below, *above(below, "other")], attribute="packages.x86_64-linux.other")
    acme.add_project("shop")
    acme.publish("1.4.0", [*below, *above(below, "shop")], project="shop")
    foreign.publish("1.4.0", [*below, *above(below, "foreign")])
    yanked = manifest_of(acme, "=1.4.1")[0]
    address = f"{acme.base}/releases/1.4.1/yank"
    assert shared_hub.request("PUT", address, json={"reason": "bad"}, token=shared_hub.admin).status == 200
    bound = shared_hub.make_token(
        acme.organization, kind="resolve-only", project="web", requirement="^1.4", attribute=ATTRIBUTE
    )
    nothing = without_token(plan(acme, "^1.4", token=bound))
    assert len(places_of(nothing.sources.places)) == 5
    other = acme.ask("GET", f"{acme.base}/resolve/=1.4.2/packages.x86_64-linux.other").json()["manifest"]
    shop = acme.ask("GET", f"{acme.base.replace('/web', '/shop')}/resolve/1/{ATTRIBUTE}").json()["manifest"]
    for digest in (
        manifest_of(acme, "=1.3.0")[0],
        manifest_of(acme, "=0.9.0")[0],
        other,
        shop,
        manifest_of(foreign, "1")[0],
        yanked,
        "sha256:" + "0" * 64,
        "nonsense",
    ):
        assert without_token(plan(acme, "^1.4", [digest], token=bound)) == nothing
    known = plan(acme, "^1.4", [manifest_of(acme, "=1.4.0")[0]], token=bound)
    assert len(places_of(known.sources.places)) == 2
