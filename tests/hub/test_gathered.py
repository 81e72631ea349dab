"""Gathered paths in the order, and with the gaps, that a plain look at all of them gives."""

import random
from pathlib import Path

import msgspec
import pytest

from piste.hub.cache.gathered import Gathered
from piste.hub.cache.records import PathRecord
from piste.lib.spooled import PAGE, Spooled
from piste.nix.closure import ClosureError
from piste.nix.hashes import sha256_of
from piste.wire.manifest import encode_manifest, entry_pieces, make_manifest
from tests.running.closures import new_path


def record(name: str, references: list[str]) -> PathRecord:
    return PathRecord(
        hash_part=name[:32],
        name=name[33:],
        nar_hash=sha256_of(name.encode()).nix32(),
        nar_size=len(name),
        reference_names=msgspec.json.encode(references).decode(),
    )


def names(count: int) -> list[str]:
    return [new_path(f"path-{number}", number).base_name for number in range(count)]


def tangle(seed: int, count: int) -> dict[str, PathRecord]:
    """A closure whose last path reaches all."""
    draw = random.Random(seed)
    made = names(count)
    records = {}
    for number, name in enumerate(made):
        below = draw.sample(made[:number], min(number, draw.randrange(5)))
        records[name] = record(name, [*below, name] if draw.random() < 0.3 else below)
    return records | {made[-1]: record(made[-1], made[:-1])}


@pytest.mark.parametrize("seed", range(10))
def test_a_manifest_has_the_bytes_of_one_that_is_made_at_once(tmp_path: Path, seed: int) -> None:
    records = tangle(seed, 60)
    root = list(records)[-1]
    shuffled = list(records.values())
    random.Random(seed).shuffle(shuffled)
    with Gathered(tmp_path) as paths:
        for each in shuffled:
            paths.put([each])
        made = b"".join(entry_pieces(paths.closure(root)))
    assert made == encode_manifest(make_manifest(root, records))


def test_what_reaches_something_that_is_not_there_is_incomplete(tmp_path: Path) -> None:
    a, b, c, d, e = names(5)
    with Gathered(tmp_path) as paths:
        paths.put([record(a, []), record(b, [a, b]), record(d, [c]), record(e, [d, a])])
        paths.expect([record(c, [a])])
        assert paths.incomplete() == {c, d, e}
        paths.leave_out(paths.incomplete())
        assert [[each.base_name for each in page] for page in paths.pages()] == [sorted([a, b])]
        assert (a in paths, c in paths, d in paths, "0" * 32 + "-x" in paths) == (True, False, False, False)
        assert paths.references(e) == [d, a]


def test_what_is_lacking_is_told_once(tmp_path: Path) -> None:
    a, b, c, d, e = names(5)
    with Gathered(tmp_path) as paths:
        paths.put([record(a, [b, a])])
        paths.expect([record(c, [])])
        assert paths.lacking([e]) == sorted([b, c, e])
        paths.put([record(b, [d]), record(c, [])])
        assert paths.lacking([e]) == [d]
        assert paths.lacking([e]) == []
        assert paths.missing == 2


def test_a_circle_is_named(tmp_path: Path) -> None:
    a, b, c = names(3)
    with Gathered(tmp_path) as paths:
        paths.put([record(a, [b]), record(b, [a]), record(c, [])])
        with pytest.raises(ClosureError, match=f"(?=.*{a})(?=.*{b})"):
            paths.check_order()
        paths.check_order(without=[b])
        with pytest.raises(ClosureError, match=b):
            list(paths.closure(a))
        assert [each.path for each in paths.closure(c)] == [c]


def test_a_closure_with_a_hole_is_none(tmp_path: Path) -> None:
    a, b = names(2)
    with Gathered(tmp_path) as paths:
        paths.put([record(a, [b])])
        with pytest.raises(ClosureError, match=f"nothing is known of {b}, to which {a} refers"):
            list(paths.closure(a))
        paths.check_order()


def test_what_comes_later_counts(tmp_path: Path) -> None:
    a, b = names(2)
    with Gathered(tmp_path) as paths:
        paths.expect([record(a, [b])])
        paths.put([record(a, [])])
        assert paths.incomplete() == {b}
        assert paths.record(a) == record(a, [])


def test_a_list_in_a_file_leaves_none_behind(tmp_path: Path) -> None:
    items = [record(name, []) for name in names(2 * PAGE + 1)]
    with Spooled(tmp_path, PathRecord) as listed:
        listed.add(items[:10])
        listed.add(items[10:])
        assert listed[11] == items[11]
        pages = list(listed.pages())
        assert [len(page) for page in pages] == [PAGE, PAGE, 1]
        assert [each for page in pages for each in page] == items
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
