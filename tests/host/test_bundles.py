"""Small NARs are asked for together and taken apart again; large ones and foreign ones come alone."""

import random

from hypothesis import given
from hypothesis import strategies as st

from piste.host.bundles import Parts, address, group
from piste.hub.cache.bundles import parse_places
from piste.wire.resolution import NarSource

SIZES = st.one_of(st.none(), st.integers(1, 4000), st.integers(400_000, 3_000_000))


def source(number: int, size: int | None = 1000) -> NarSource:
    return NarSource(f"nar/{number}.nar.zst", "zstd", [], size)


@given(st.lists(SIZES, max_size=300))
def test_every_path_is_asked_for_once_and_in_its_order(sizes: list[int | None]) -> None:
    sources = [source(number, size) for number, size in enumerate(sizes)]
    missing = [number for number in range(len(sizes)) if number % 7]
    groups = group(sources, missing)
    assert [place for places in groups for place in places] == missing
    for places in groups:
        known = [sources[place].file_size for place in places]
        assert len(places) == 1 or sum(size or 1 << 40 for size in known) <= 2 << 20


def test_an_upstream_s_nar_a_large_one_and_one_of_unknown_size_come_alone() -> None:
    elsewhere = NarSource("https://upstream.example/nar/x.nar.xz", "xz", [], 10)
    sources = [source(0), source(1), elsewhere, source(3), source(4, None), source(5, 1 << 20), source(6)]
    assert group(sources, range(7)) == [[0, 1], [2], [3], [4], [5], [6]]


def test_a_nar_that_two_paths_share_is_in_a_bundle_once() -> None:
    sources = [source(0), source(1), source(0), source(3)]
    assert group(sources, range(4)) == [[0, 1], [2], [3]]


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=128, unique=True).map(sorted))
def test_an_address_names_the_places_and_the_hub_reads_them(places: list[int]) -> None:
    manifest, _, asked = address("sha256:abc", places).partition("/nars?places=")
    assert manifest == "manifest/abc"
    assert parse_places(asked) == places


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.integers(1, 200), st.integers(0, 99))
def test_what_was_put_together_comes_apart(files: list[bytes], size: int, seed: int) -> None:
    whole, draw = b"".join(files), random.Random(seed)
    pieces = []
    while whole:
        cut = draw.randint(1, size)
        pieces.append(whole[:cut])
        whole = whole[cut:]
    parts = Parts(iter(pieces))
    for file in files[:-1]:
        assert b"".join(parts.part(len(file))) == file
    assert b"".join(parts.remainder()) == files[-1]


def test_an_answer_that_ends_early_gives_less_and_does_not_hang() -> None:
    parts = Parts(iter([b"abc"]))
    assert b"".join(parts.part(10)) == b"abc"
    assert b"".join(parts.part(10)) == b""
