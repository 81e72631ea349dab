"""What is packed for the wire comes out as it went in, and what does not hold together is refused."""

import hashlib
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix import base32
from piste.wire.manifest import (
    Manifest,
    ManifestError,
    encode_manifest,
    make_manifest,
    manifest_digest,
    manifest_pieces,
)
from piste.wire.plan import (
    PackedManifest,
    pack_manifest,
    pack_paths,
    pack_sources,
    short_hash,
    unpack_manifest,
    unpack_paths,
)
from piste.wire.resolution import NarSource
from piste.wire.runs import PlanError, places_of, runs_of
from piste.wire.sources import Sources, unpack_sources


class Path(msgspec.Struct, frozen=True):
    nar_hash: str
    nar_size: int
    references: list[str]
    content_address: str | None = None


def base_name(number: int, salt: int) -> str:
    part = base32.encode(hashlib.sha1(f"{number} {salt}".encode()).digest())
    return f"{part}-package-{number}"


@st.composite
def closures(draw: st.DrawFn) -> tuple[Manifest, Manifest]:
    """A closure, and the same after some of its paths changed, and with them all that refer to those."""
    count = draw(st.integers(1, 12))
    references = [draw(st.sets(st.integers(0, number), max_size=4)) for number in range(count)]
    changed = draw(st.sets(st.integers(0, count - 1)))
    for number in range(count):
        if references[number] & changed:
            changed.add(number)
    return tuple(_manifest(references, moved) for moved in (set(), changed))  # type: ignore[return-value]


def _manifest(references: list[set[int]], changed: set[int]) -> Manifest:
    names = [base_name(number, number in changed) for number in range(len(references))]
    names[-1:] = [base_name(-1, -1 in changed or len(references) - 1 in changed)]
    paths: Mapping[str, Path] = {
        name: Path(
            f"sha256:{base32.encode(hashlib.sha256(name.encode()).digest())}",
            1000 + number,
            [names[each] for each in sorted(references[number])]
            + (names[:-1] if number == len(references) - 1 else []),
            "fixed:sha256:abc" if number % 3 == 1 else None,
        )
        for number, name in enumerate(names)
    }
    return make_manifest(names[-1], paths)


def digest_of(manifest: Manifest) -> str:
    return manifest_digest(encode_manifest(manifest))


def over_the_wire(packed: PackedManifest) -> PackedManifest:
    return msgspec.json.decode(msgspec.json.encode(packed), type=PackedManifest)


@given(closures())
def test_a_manifest_is_the_same_again_whatever_it_is_built_upon(pair: tuple[Manifest, Manifest]) -> None:
    old, new = pair
    digest, base = digest_of(new), digest_of(old)
    assert unpack_manifest(over_the_wire(pack_manifest(new)), digest, {}) == new
    packed = over_the_wire(pack_manifest(new, (base, old)))
    assert unpack_manifest(packed, digest, {base: old}) == new
    if old != new:
        with pytest.raises(ManifestError):
            unpack_manifest(packed, base, {base: old})
    with pytest.raises(ManifestError):
        unpack_manifest(packed, digest, {})


@pytest.mark.parametrize(
    "order", [[0, 9], [-1, 9], [5, 1], [-2, 1], [0, -1], [0, 10**12], [0], [-1, 1, 0, 1]]
)
def test_a_packed_manifest_that_does_not_hold_together_is_refused(order: list[int]) -> None:
    old = _manifest([set(), {0}, {1}], set())
    base = digest_of(old)
    packed = msgspec.structs.replace(pack_manifest(old, (base, old)), order=order)
    with pytest.raises(ManifestError):
        unpack_manifest(packed, base, {base: old})


@pytest.mark.parametrize("paths", [0, 1, 1023, 1024, 1025, 3000])
def test_a_manifest_in_pieces_has_the_same_bytes(paths: int) -> None:
    manifest = _manifest([set()] * (paths or 1), set())
    if not paths:
        manifest = msgspec.structs.replace(manifest, paths=[])
    assert b"".join(manifest_pieces(manifest)) == encode_manifest(manifest)


SIGNATURE = "A" * 86 + "=="
SOURCES = [
    NarSource("", "zstd", [f"acme-1:{SIGNATURE}"], 5),
    NarSource("", "zstd", [f"acme-1:{SIGNATURE}", f"acme-2:{'B' * 86}=="], None),
    NarSource("https://cache.example/nar/x.nar.xz", "xz", [f"cache-1:{SIGNATURE}"], 0),
    NarSource("", "zstd", ["odd:AAAA", f"acme-1:{'C' * 86}=="], 7),
    NarSource("", "zstd", []),
]


def test_sources_are_the_same_again() -> None:
    manifest = _manifest([set()] * 9, set())
    places = [0, 1, 2, 5, 8]
    sources = [
        source
        if source.url
        else msgspec.structs.replace(source, url=f"nar/{manifest.paths[place].nar_hash[7:]}.nar.zst")
        for place, source in zip(places, SOURCES, strict=True)
    ]
    again = unpack_sources(pack_sources(places, sources), manifest)
    assert list(again) == places
    for one, other in zip(again.values(), sources, strict=True):
        assert set(one.signatures) == set(other.signatures)
        assert (one.url, one.compression, one.file_size) == (other.url, other.compression, other.file_size)


def test_sources_that_come_in_several_answers_do_not_mix() -> None:
    manifest = _manifest([set()] * 9, set())
    sources = Sources(manifest)
    for places, some in (([0, 3], SOURCES[0:2]), ([1, 2, 8], SOURCES[2:])):
        sources.add(pack_sources(places, some))
    sources.put(5, SOURCES[2])
    assert list(sources) == [0, 1, 2, 3, 5, 8] and len(sources) == 6
    assert [sources.file_size(place) for place in sources] == [5, 0, 7, None, 0, None]
    assert sources[3].signatures == SOURCES[1].signatures
    assert set(sources[2].signatures) == set(SOURCES[3].signatures)
    assert (sources[1].url, sources[1].compression) == (SOURCES[2].url, "xz")
    assert sources[5] is SOURCES[2]
    assert 4 not in sources and 9 not in sources and -1 not in sources


@pytest.mark.parametrize(
    "change",
    [
        {"places": [0, 2]},
        {"places": [0, 10**12]},
        {"signed_by": [7, 1]},
        {"signed_by": [-1, 1]},
        {"file_sizes": [1 << 63]},
        {"file_sizes": []},
        {"places": [9, 1]},
        {"places": [-1, 1]},
    ],
)
def test_sources_that_do_not_hold_together_are_refused(change: dict[str, list[int]]) -> None:
    manifest = _manifest([set()], set())
    packed = pack_sources([0], [SOURCES[0]])
    with pytest.raises(PlanError):
        unpack_sources(msgspec.structs.replace(packed, **change), manifest)


@given(st.lists(st.integers(0, 50)))
def test_places_are_the_same_again(places: list[int]) -> None:
    assert places_of(runs_of(places)) == places


@given(st.sets(st.binary(min_size=20, max_size=20)))
def test_a_list_of_a_store_s_paths_is_the_same_again(digests: set[bytes]) -> None:
    parts = [base32.encode(digest) for digest in digests]
    assert set(unpack_paths(pack_paths(parts))) == {short_hash(part) for part in parts}


def test_a_list_of_ten_thousand_paths_takes_thirty_kilobytes() -> None:
    parts = [base_name(number, 0)[:32] for number in range(10_000)]
    assert len(pack_paths(parts)) < 31_000
