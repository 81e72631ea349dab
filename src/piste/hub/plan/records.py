"""What is remembered of deltas."""

import hashlib

import msgspec


class DeltaRow(msgspec.Struct, frozen=True, kw_only=True):
    """One delta of a pair of manifests."""

    number: int
    places: str  # JSON array
    bases: str  # JSON array
    renamed: bool
    file_size: int  # of the NARs that it saves
    size: int | None = None  # None: not made yet; 0: not worth having


class PairRow(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest and one that its deltas are made against."""

    places: str  # JSON array, runs; with `bases` the successors
    bases: str
    claimed_at: int  # by whoever makes the deltas, or has


class Asked(msgspec.Struct, frozen=True):
    """A pair whose deltas somebody would have liked."""

    project: str  # id
    base: str  # sha256:<hex>
    target: str


def delta_object(asked: Asked, number: int) -> str:
    """The name of a delta's object. No two projects share one, so that none learns of what others have."""
    text = f"{asked.project} {asked.base} {asked.target} {number}"
    return hashlib.sha256(text.encode()).hexdigest()


def delta_key(name: str) -> str:
    """Where it is."""
    return f"delta/{name}.zst"
