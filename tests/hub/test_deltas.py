"""A hub makes deltas by itself, against the release before and against what a host names; who may have one
has it, and nobody else learns that it is there.
"""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from piste.hub.plan.rules import Candidate, groups, package_of, successors
from piste.lib.delta import apply_delta
from piste.nix.hashes import sha256_of
from piste.wire.deltas import DeltaOffer, Deltas, delta_address, rename, renames
from piste.wire.manifest import Manifest, decode_manifest, make_manifest
from piste.wire.plan import PlanAnswer
from tests.hub.process import Answer, Hub, wait_for
from tests.hub.publishing import Acme
from tests.running.closures import ATTRIBUTE, Member, member, new_path


class Known:
    """A path as a manifest knows it."""

    content_address = None

    def __init__(self, name: str, build: str, size: int, references: Sequence[str] = ()) -> None:
        self.name = new_path(name, (name, build)).base_name
        self.nar_hash = sha256_of(self.name.encode()).nix32()
        self.nar_size = size
        self.references = list(references)


LARGE = random.Random(1).randbytes(5 << 20)


def closure(version: str, seed: int = 1) -> list[Member]:
    """Small paths that refer to one another, and a large one in which little changes."""
    draw = random.Random(seed)
    made: list[Member] = []
    for number in range(6):
        below = [each.path for each in made[-3:]]
        made.append(member(f"part{number}-{version}", (version, number), draw.randbytes(3000), below))
    changed = LARGE[:1_000_000] + version.encode() * 100 + LARGE[1_000_000:]
    made.append(member(f"large-{version}", version, changed, [made[-1].path]))
    made.append(member("system", version, b"", [each.path for each in made]))
    return made


@pytest.fixture(scope="module")
def acme(shared_hub: Hub) -> Acme:
    made = Acme(shared_hub)
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        made.publish(version, closure(version))
    made.publish("2.0.0", closure("2.0.0"))
    return made


def manifest_of(acme: Acme, requirement: str) -> tuple[str, Manifest]:
    digest = acme.resolve(requirement).json()["manifest"]
    data = acme.ask("GET", f"{acme.cache}/manifest/{digest.removeprefix('sha256:')}").body
    return digest, decode_manifest(data, digest)


def plan(acme: Acme, requirement: str, have: str, **more: Any) -> PlanAnswer:
    query = f"have={have.removeprefix('sha256:')}"
    answer = acme.ask("GET", f"{acme.base}/plan/{requirement}/{ATTRIBUTE}?{query}", **more)
    return msgspec.json.decode(answer.body, type=PlanAnswer)


def all_deltas(acme: Acme, requirement: str, have: str, **more: Any) -> tuple[PlanAnswer, Deltas]:
    """The plan once the deltas of the small paths and of the large one are there."""

    found: list[tuple[PlanAnswer, Deltas]] = []

    def ready() -> bool:
        answer = plan(acme, requirement, have, **more)
        if answer.deltas is not None and len(answer.deltas.offers) == 2:
            found.append((answer, answer.deltas))
        return bool(found)

    wait_for(ready)
    return found[-1]


def get(acme: Acme, target: str, base: str, number: object, **more: Any) -> Answer:
    address = delta_address(target, base, 0).removesuffix("0")
    return acme.ask("GET", f"{acme.cache}/{address}{number}", **more)


def expanded(
    old: Sequence[Member], manifest: Manifest, base: Manifest, deltas: Deltas, offer: DeltaOffer, body: bytes
) -> bytes:
    nars = {each.path.base_name: each.nar for each in old}
    known = deltas.successors()
    data = b"".join(
        rename(nars[base.paths[at].path], renames(manifest, base, known, place, at) if offer.renamed else [])
        for place, at in zip(offer.places, offer.bases, strict=True)
    )
    size = sum(manifest.paths[place].nar_size for place in offer.places)
    return b"".join(apply_delta(lambda start, length: data[start : start + length], len(data), [body], size))


def test_deltas_against_the_release_before_are_there_soon_after_it_is_published(acme: Acme) -> None:
    old, base = manifest_of(acme, "=1.1.0")
    digest, manifest = manifest_of(acme, "=1.2.0")
    answer, deltas = all_deltas(acme, "=1.2.0", old)
    nars = {each.path.base_name: each.nar for each in closure("1.2.0")}
    made: set[int] = set()
    for offer in deltas.offers:
        body = get(acme, digest, old, offer.number, token=answer.resolution.token).body
        assert len(body) == offer.size
        out = expanded(closure("1.1.0"), manifest, base, deltas, offer, body)
        assert out == b"".join(nars[manifest.paths[place].path] for place in offer.places)
        made.update(offer.places)
    assert made == set(range(len(manifest.paths)))
    small, large = sorted(deltas.offers, key=lambda offer: not offer.renamed)
    # All that the small ones differ in are hashes, and the version in the names.
    assert small.size < 400
    assert large.size < 3000
    part = get(acme, digest, old, large.number, headers={"Range": "bytes=10-19"})
    assert (part.status, len(part.body)) == (206, 10)


def test_deltas_against_another_release_are_made_once_somebody_runs_it(acme: Acme) -> None:
    old, _ = manifest_of(acme, "=1.0.0")
    first = plan(acme, "2", old)
    assert first.deltas is None or len(first.deltas.offers) < 2
    all_deltas(acme, "2", old)


def test_outputs_in_which_the_same_nar_changed_share_its_delta(acme: Acme) -> None:
    other = "packages.x86_64-linux.other"
    acme.add_project("twice")
    versions = ("1.0.0", "1.1.0")
    for version in versions:
        paths = closure(f"{version}.2")
        filling = acme.open(version, "twice")
        filling.declare(paths, {ATTRIBUTE: paths[-1], other: paths[-2]})
        filling.upload_missing(paths)
        filling.source()
        assert filling.finish().status == 200
    place = acme.base.replace("/web", "/twice")
    keys: list[set[str]] = []
    for attribute in (ATTRIBUTE, other):
        base, target = (
            acme.ask("GET", f"{place}/resolve/={version}/{attribute}").json()["manifest"]
            for version in versions
        )
        tags: set[str] = set()

        def ready(base: str = base, target: str = target, tags: set[str] = tags) -> bool:
            for number in (0, 1):
                address = f"/cache/{acme.organization}/twice/{delta_address(target, base, number)}"
                answer = acme.ask("GET", address)
                if answer.status == 200:
                    tags.add(answer.headers["etag"])
            return len(tags) == 2

        wait_for(ready)
        keys.append(tags)
    assert len(keys[0] & keys[1]) == 1
    assert len(keys[0] | keys[1]) == 3


def test_a_base_is_checked_like_the_target_also_when_a_delta_is_fetched(acme: Acme, shared_hub: Hub) -> None:
    old, _ = manifest_of(acme, "=1.1.0")
    older, _ = manifest_of(acme, "=1.0.0")
    digest, _ = manifest_of(acme, "=1.2.0")
    other, _ = manifest_of(acme, "2")
    _, deltas = all_deltas(acme, "=1.2.0", old)
    number = deltas.offers[0].number
    all_deltas(acme, "=1.2.0", older)
    wide, narrow = (
        shared_hub.make_token(
            acme.organization,
            kind="resolve-only",
            project="web",
            requirement=requirement,
            attribute=ATTRIBUTE,
        )
        for requirement in ("~1", ">=1.1, <2")
    )
    assert plan(acme, "~1", older, token=wide).deltas is not None
    bound = plan(acme, "%3E=1.1,%20%3C2", older, token=narrow)
    assert bound.deltas is None
    token = bound.resolution.token
    assert get(acme, digest, old, number, token=token).status == 200
    missing = get(acme, digest, "0" * 64, number, token=token)
    for answer in (
        get(acme, digest, older, number, token=token),
        get(acme, other, old, number, token=token),
        get(acme, digest, digest, number, token=token),
        get(acme, digest, old, 99, token=token),
        get(acme, digest, old, "x", token=token),
        get(acme, digest, "..", number, token=token),
        get(acme, digest, old, number, token=narrow),
    ):
        assert answer.status in (403, 404)
    refused = get(acme, digest, older, number, token=token)
    assert refused.json()["error"]["ref"] == missing.json()["error"]["ref"] == "not-found"
    assert refused.json()["error"]["message"] == missing.json()["error"]["message"]


def test_packages_are_known_by_their_names_without_versions() -> None:
    part = "0" * 32
    assert package_of(f"{part}-openssl-3.0.14-bin") == ("openssl", "bin")
    assert package_of(f"{part}-openssl-3.1.0-bin") == ("openssl", "bin")
    assert package_of(f"{part}-openssl-3.0.14") == ("openssl",)
    assert package_of(f"{part}-unit-nginx.service") == ("unit", "nginx.service")


def test_each_new_path_takes_the_place_of_the_one_that_is_most_like_it(acme: Acme) -> None:
    _, base = manifest_of(acme, "=1.1.0")
    _, manifest = manifest_of(acme, "=1.2.0")
    names = {
        manifest.paths[place].path[33:].split("-")[0]: base.paths[at].path[33:].split("-")[0]
        for place, at in successors(manifest, base).items()
    }
    assert len(names) == len(manifest.paths)
    assert all(new == old for new, old in names.items())
    assert successors(manifest, manifest) == {}


def test_of_several_versions_the_nearest_one_is_built_upon() -> None:
    def versions(build: str, sizes: dict[str, int]) -> Manifest:
        made = [Known(f"openssl-{version}", build, size) for version, size in sizes.items()]
        made.append(Known("system", build, 0, [each.name for each in made]))
        return make_manifest(made[-1].name, {each.name: each for each in made})

    def number(name: str) -> str:
        return name[33:].removeprefix("openssl-")

    base = versions("old", {"1.1.1": 900, "3.0.9": 700, "3.0.13": 400, "3.2.1": 1000, "3.10.0": 1000})
    new = {"3.0.14": 900, "3.2.1": 10, "1.1.2": 1000, "4.0.0": 900}
    manifest = versions("new", new)
    found = {
        number(manifest.paths[place].path): number(base.paths[at].path)
        for place, at in successors(manifest, base).items()
    }
    assert found == {
        "3.0.14": "3.0.13",
        "3.2.1": "3.2.1",
        "1.1.2": "1.1.1",
        "4.0.0": "3.10.0",  # none is near: one of like size that nothing else builds upon
        "system": "system",
    }


def test_a_thousand_paths_of_one_package_find_their_own_names_again() -> None:
    def numbered(build: str) -> Manifest:
        made = [Known(f"part-{number}", build, 1000 + number % 7) for number in range(1000)]
        made.append(Known("system", build, 0, [each.name for each in made]))
        return make_manifest(made[-1].name, {each.name: each for each in made})

    base, manifest = numbered("old"), numbered("new")
    pairs = successors(manifest, base)
    assert len(pairs) == 1001
    assert all(manifest.paths[place].path[33:] == base.paths[at].path[33:] for place, at in pairs.items())


def test_small_nars_share_deltas_of_bounded_size_and_large_ones_have_their_own() -> None:
    mebibyte = 1 << 20
    made = groups(
        [
            Candidate(0, 5, 3 * mebibyte, mebibyte, 10),
            Candidate(1, 6, 90 * mebibyte, mebibyte, 20),
            Candidate(2, 7, 3 * mebibyte, mebibyte, 30),
            Candidate(3, 8, 3 * mebibyte, 4 * mebibyte, 40),
            Candidate(4, 9, 1, 5 * mebibyte, 50),
            Candidate(5, 10, 5 << 30, 5 * mebibyte, 60),
        ]
    )
    assert [(each.places, each.renamed, each.file_size) for each in made] == [
        ([0, 2], True, 40),
        ([3], True, 40),
        ([1], False, 20),
        ([4], False, 50),
    ]
