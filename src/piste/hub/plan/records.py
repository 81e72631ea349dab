"""What is remembered of deltas."""

import hashlib
from collections.abc import Sequence

import msgspec


class DeltaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One delta of a pair of manifests."""

    number: int
    places: str  # JSON array
    bases: str  # JSON array
    renamed: bool
    file_size: int  # of the NARs that it saves
    object: str  # its name; see `delta_object`
    size: int | None = None  # None: not made yet; 0: not worth having


class PairRow(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest and one that its deltas are made against."""

    places: str  # JSON array, runs; with `bases` the successors
    bases: str
    claimed_at: int  # by whoever makes the deltas, or has


class HeldNar(msgspec.Struct, frozen=True, gc=False):
    """A NAR whose file the hub has."""

    nar_hash: str
    nar_size: int
    file_size: int


class Asked(msgspec.Struct, frozen=True):
    """A pair whose deltas somebody would have liked."""

    project: str  # id
    base: str  # sha256:<hex>
    target: str


# Of one NAR of a delta: the hash of the old one, that of the new one, and what is renamed in the old.
Made = tuple[str, str, list[tuple[bytes, bytes]]]


def delta_object(project: str, nars: Sequence[Made]) -> str:
    """The name of a delta's object: the same for all pairs of manifests in which it is the same. No two
    projects share one, so that none learns of what others have."""
    return hashlib.sha256(msgspec.json.encode([project, nars])).hexdigest()


def delta_key(name: str) -> str:
    """Where it is."""
    return f"delta/{name}.zst"
