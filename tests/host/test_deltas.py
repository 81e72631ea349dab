"""NARs are made of older ones in the store, one delta for several; what can't be right is no NAR."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from piste.host.deltas import Rebuilding, Rebuilt, _is_worth
from piste.lib.delta import DeltaError, make_delta
from piste.nix.store_path import StorePath
from piste.nixcmd.store import Store
from piste.wire.deltas import DeltaOffer, rename, renames
from piste.wire.manifest import FORMAT, Manifest, ManifestPath
from tests.running.closures import file_nar, new_path

SIZE = 300_000


class Pair:
    """Two closures of three files, each referring to the one before; the older one lies in a store."""

    def __init__(self, folder: Path) -> None:
        draw = random.Random(5)
        self.store = Store(f"local?root={folder}", folder)
        bodies = [draw.randbytes(SIZE) for _ in range(3)]
        self.old, old_nars = self._closure("old", bodies)
        bodies[1] = bodies[1][:100_000] + b"changed" + bodies[1][100_000:]
        self.new, self.nars = self._closure("new", bodies)
        self.base_nars = old_nars
        for entry, nar in zip(self.old.paths, old_nars, strict=True):
            path = self.store.real_path(f"/nix/store/{entry.path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(nar[96 : 96 + int.from_bytes(nar[88:96], "little")])

    @staticmethod
    def _closure(seed: str, bodies: list[bytes]) -> tuple[Manifest, list[bytes]]:
        entries: list[ManifestPath] = []
        nars: list[bytes] = []
        before: list[StorePath] = []
        for number, body in enumerate(bodies):
            path = new_path(f"part-{number}", (seed, number))
            nar = file_nar("".join(f"{each}\n" for each in before).encode() + body)
            references = list(range(number))
            entries.append(ManifestPath(path.base_name, "sha256:" + "0" * 52, len(nar), references))
            nars.append(nar)
            before.append(path)
        return Manifest(FORMAT, "/nix/store", entries), nars

    def rebuilding(self, renamed: bool) -> tuple[Rebuilding, DeltaOffer, bytes]:
        """All that is needed to make the new NARs, and the delta."""
        successors = {place: place for place in range(3)}
        base = self.base_nars
        if renamed:
            base = [
                rename(nar, renames(self.new, self.old, successors, place, place))
                for place, nar in enumerate(base)
            ]
        whole = b"".join(base)
        target = b"".join(self.nars)
        delta = b"".join(
            make_delta(lambda start, length: whole[start : start + length], len(whole), [target], len(target))
        )
        offer = DeltaOffer(0, len(delta), [0, 1, 2], [0, 1, 2], renamed)
        return Rebuilding("sha256:base", self.old, successors, [offer]), offer, delta

    def make(self, renamed: bool, places: list[int]) -> list[bytes]:
        rebuilding, offer, delta = self.rebuilding(renamed)

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(delta), 1000):
                yield delta[start : start + 1000]

        rebuilt = Rebuilt(self.store, self.new, rebuilding, offer, pieces)
        return [b"".join(rebuilt.nar(place)) for place in places]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize("renamed", [True, False])
@pytest.mark.parametrize("places", [[0, 1, 2], [1], [0, 2]])
def test_nars_are_made_of_those_that_are_there(pair: Pair, renamed: bool, places: list[int]) -> None:
    assert pair.make(renamed, places) == [pair.nars[place] for place in places]
    size = pair.rebuilding(renamed)[1].size
    assert size < 4000


@pytest.mark.parametrize("damage", ["gone", "shorter", "a folder"])
def test_a_base_that_is_not_what_it_was_makes_the_delta_fail(pair: Pair, damage: str) -> None:
    path = pair.store.real_path(f"/nix/store/{pair.old.paths[1].path}")
    if damage == "shorter":
        path.write_bytes(path.read_bytes()[:-50_000])
    else:
        path.unlink()
    if damage == "a folder":
        path.mkdir()
    with pytest.raises(DeltaError):
        pair.make(True, [0, 1, 2])


def test_a_base_with_other_bytes_makes_other_bytes_which_their_hash_tells(pair: Pair) -> None:
    path = pair.store.real_path(f"/nix/store/{pair.old.paths[1].path}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    try:
        assert pair.make(True, [0, 1, 2]) != pair.nars
    except DeltaError:
        return


def test_a_delta_is_taken_where_it_is_faster_than_the_files(pair: Pair) -> None:
    offer = pair.rebuilding(True)[1]
    files = dict.fromkeys(range(3), SIZE)
    assert _is_worth(offer, pair.old, pair.new, files, None)
    assert _is_worth(offer, pair.old, pair.new, files, 10e6)
    assert not _is_worth(offer, pair.old, pair.new, files, 10e9)
    # What is here already does not count.
    assert not _is_worth(offer, pair.old, pair.new, {0: 100}, 10e6)


@pytest.mark.parametrize(
    "offer",
    [
        DeltaOffer(0, 10, [0, 1], [0]),
        DeltaOffer(0, 10, [1, 0], [0, 1]),
        DeltaOffer(0, 10, [0, 0], [0, 1]),
        DeltaOffer(0, 0, [0, 1], [0, 1]),
        DeltaOffer(0, 10, [0, 1], [0, -1]),
    ],
)
def test_an_offer_that_makes_no_sense_is_not_taken(pair: Pair, offer: DeltaOffer) -> None:
    assert not _is_worth(offer, pair.old, pair.new, dict.fromkeys(range(3), SIZE), None)
