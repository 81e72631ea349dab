"""NARs are made from what lies in the store; whatever is not as it should be is said, and nothing is held
whole.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from piste.host.deltas import Pair, nars_of
from piste.host.stored_nar import StoredNar
from piste.lib.delta import DeltaError, make_delta
from piste.nix.hashes import sha256_of
from piste.nixcmd.store import Store
from piste.wire.deltas import DeltaOffer, Deltas, rename, renames
from piste.wire.manifest import Manifest, make_manifest
from piste.wire.runs import runs_of
from tests.running.closures import file_nar, new_path
from tests.unit.nix.trees import EXAMPLE, make, nar_of


class Known:
    """A path with what a manifest says of it, and with its content."""

    def __init__(self, name: str, release: str, content: bytes, references: Sequence["Known"] = ()) -> None:
        self.name = new_path(name, (name, release)).base_name
        named = "".join(f"/nix/store/{each.name} " for each in references).encode()
        self.content = named + content + self.name.encode()
        self.nar = file_nar(self.content)
        self.nar_hash = sha256_of(self.nar).nix32()
        self.nar_size = len(self.nar)
        self.references = [*(each.name for each in references), self.name]
        self.content_address = None


def release(version: str, large: bytes) -> list[Known]:
    library = Known("library", version, b"some text " * 50)
    program = Known("program", version, large, [library])
    return [library, program, Known("system", version, b"boots", [library, program])]


def manifest_of(paths: Sequence[Known]) -> Manifest:
    return make_manifest(paths[-1].name, {each.name: each for each in paths})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "nix/store").mkdir(parents=True)
    return Store.parse(f"local?root={tmp_path}")


def plant(store: Store, paths: Sequence[Known]) -> None:
    for each in paths:
        store.real_path(f"/nix/store/{each.name}").write_bytes(each.content)


def offered(old: Sequence[Known], new: Sequence[Known], *, renamed: bool) -> tuple[Pair, DeltaOffer, bytes]:
    """One delta of all paths, as a hub makes it."""
    places = list(range(len(new)))
    deltas = Deltas(runs_of(places), runs_of(places), [])
    pair = Pair.of(manifest_of(new), manifest_of(old), deltas)
    base = b"".join(
        rename(path.nar, renames(pair.manifest, pair.base, pair.successors, place, place) if renamed else [])
        for place, path in enumerate(old)
    )
    target = b"".join(path.nar for path in new)
    made = make_delta(lambda start, length: base[start : start + length], len(base), [target], len(target))
    delta = b"".join(made)
    return pair, DeltaOffer(0, len(delta), places, places, renamed), delta


@pytest.mark.parametrize("renamed", [True, False])
def test_the_nars_of_a_release_are_made_from_those_of_another(store: Store, renamed: bool) -> None:
    large = random.Random(1).randbytes(300_000)
    old, new = release("1", large), release("2", large)
    plant(store, old)
    pair, offer, delta = offered(old, new, renamed=renamed)
    made = {
        place: b"".join(pieces) for place, pieces in nars_of(store, pair, offer, [delta[:50], delta[50:]])
    }
    assert made == {place: each.nar for place, each in enumerate(new)}
    # Only hashes differ: once they are put in, nothing does.
    assert len(delta) < (130 if renamed else 700)


def test_a_base_that_is_gone_or_was_changed_is_told_before_anything_is_made(store: Store) -> None:
    old, new = release("1", b"x" * 5000), release("2", b"x" * 5000)
    pair, offer, delta = offered(old, new, renamed=True)
    plant(store, old[:2])
    with pytest.raises(DeltaError):
        _ = [b"".join(pieces) for _, pieces in nars_of(store, pair, offer, [delta])]
    plant(store, old)
    store.real_path(f"/nix/store/{old[1].name}").write_bytes(b"shorter")
    with pytest.raises(DeltaError, match="not what the release before says"):
        _ = [b"".join(pieces) for _, pieces in nars_of(store, pair, offer, [delta])]


@pytest.mark.parametrize(
    "change", [{"places": [0, 1]}, {"places": [0, 1, 9]}, {"bases": [0, 1, 9]}, {"places": [], "bases": []}]
)
def test_an_offer_that_does_not_hold_together_is_refused(store: Store, change: dict[str, list[int]]) -> None:
    old, new = release("1", b"x"), release("2", b"x")
    plant(store, old)
    pair, offer, delta = offered(old, new, renamed=True)
    fields = {"places": offer.places, "bases": offer.bases, **change}
    bad = DeltaOffer(0, offer.size, fields["places"], fields["bases"], renamed=True)
    with pytest.raises(DeltaError):
        _ = [b"".join(pieces) for _, pieces in nars_of(store, pair, bad, [delta])]


def test_any_part_of_a_path_s_nar_is_read_from_its_files(tmp_path: Path) -> None:
    make(EXAMPLE, tmp_path / "tree")
    nar, stored = nar_of(EXAMPLE), StoredNar(tmp_path / "tree")
    assert stored.size == len(nar)
    assert stored.read(0, len(nar) + 99) == nar
    draw = random.Random(1)
    for _ in range(300):
        start, length = draw.randrange(len(nar)), draw.randrange(200)
        assert stored.read(start, length) == nar[start : start + length]
    assert stored.read(len(nar), 5) == b""
