"""Small NARs are asked for together; large ones come in parts, foreign ones alone."""

from hypothesis import given
from hypothesis import strategies as st

from piste.host.bundles import Item, address, group, parts_of
from piste.hub.cache.bundles import parse_places

SIZES = st.one_of(st.none(), st.integers(1, 4000), st.integers(400_000, 3_000_000))


def item(number: int, size: int | None = 1000, *, url: str = "", together: bool = True) -> Item:
    place = f"https://hub.example/nar/{number}.nar.zst"
    return Item(number, url or place, size, size or 1, together, f"key-{number}", together=together)


@given(st.lists(SIZES, max_size=300))
def test_every_item_is_asked_for_once_and_a_request_keeps_their_order(sizes: list[int | None]) -> None:
    items = [item(number, size) for number, size in enumerate(sizes)]
    wanted = [number for number in range(len(sizes)) if number % 7]
    groups = group(items, wanted)
    assert sorted(number for numbers in groups for number in numbers) == wanted
    assert [numbers[0] for numbers in groups] == sorted(numbers[0] for numbers in groups)
    for numbers in groups:
        assert numbers == sorted(numbers)
        known = [items[number].size for number in numbers]
        assert len(numbers) == 1 or sum(size or 1 << 40 for size in known) <= 2 << 20


def test_an_upstream_s_nar_a_large_one_and_one_of_unknown_size_come_alone_and_part_no_bundle() -> None:
    elsewhere = item(2, 10, url="https://upstream.example/nar/x.nar.xz", together=False)
    items = [item(0), item(1), elsewhere, item(3), item(4, None), item(5, 1 << 20), item(6)]
    assert group(items, range(7)) == [[0, 1, 3, 6], [2], [4], [5]]


def test_a_bundle_does_not_reach_far_ahead_of_what_is_wanted_first() -> None:
    items = [item(number, together=number % 300 == 0) for number in range(700)]
    assert all(len(numbers) == 1 for numbers in group(items, range(700)))


def test_a_nar_that_two_paths_share_is_in_a_bundle_once() -> None:
    items = [item(0), item(1), item(2, url=item(0).url), item(3)]
    assert group(items, range(4)) == [[0, 1, 3], [2]]


@given(st.integers(1, 60 << 20))
def test_the_parts_of_a_large_nar_are_all_of_it(size: int) -> None:
    parts = parts_of(item(0, size))
    starts = [part.start for part in parts]
    ends = [part.start + (part.size or 0) for part in parts]
    assert (starts[0], ends[-1]) == (0, size)
    assert starts[1:] == ends[:-1]
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert not any(part.small for part in parts if part.part)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=128, unique=True).map(sorted))
def test_an_address_names_the_places_and_the_hub_reads_them(places: list[int]) -> None:
    manifest, _, asked = address("sha256:abc", places).partition("/nars?places=")
    assert manifest == "manifest/abc"
    assert parse_places(asked) == places
