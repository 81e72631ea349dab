"""Deltas as a plan offers them: which NARs of a closure are made from which older ones.

Where a closure was built again and nothing but store hashes changed, the hashes are all that differs, and the
host knows the new ones already: so they are put into the old NARs before these become the base of a delta.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from piste.wire.manifest import Manifest
from piste.wire.runs import PlanError, places_of

_HASH_PART: Final = 32
_PREFIX: Final = "sha256:"


class DeltaOffer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One delta (`piste-delta-1`): the NARs at `places` of the manifest, one after another, made from those
    at `bases` of the base's manifest, one after another. At `delta_address` below the project's cache."""

    number: int
    size: int
    places: list[int]
    bases: list[int]
    # In each NAR of the base the hash parts that `renames` gives stand for those that are there.
    renamed: bool = False


class Deltas(msgspec.Struct, frozen=True):
    """Paths of the closure that take the place of another one in the base, and what can be made so."""

    places: list[int]  # of the manifest; pairs of a place and how many from there on
    bases: list[int]  # of the base's manifest, in the same order and form
    offers: list[DeltaOffer]

    def successors(self) -> dict[int, int]:
        """Place in the manifest → place in the base's; PlanError where they are not as many."""
        places, bases = places_of(self.places), places_of(self.bases)
        if len(places) != len(bases):
            raise PlanError("the pairs of old and new paths do not hold together")
        return dict(zip(places, bases, strict=True))


def renames(
    manifest: Manifest, base: Manifest, successors: Mapping[int, int], place: int, base_place: int
) -> list[tuple[bytes, bytes]]:
    """The hash parts, old and new, that change in a NAR of the base: of what both it and the new path refer
    to, in the order of the new path's references."""
    before = set(base.paths[base_place].references)
    found = []
    for reference in manifest.paths[place].references:
        old = successors.get(reference)
        if old in before:
            was, now = base.paths[old].path[:_HASH_PART], manifest.paths[reference].path[:_HASH_PART]
            if was != now:
                found.append((was.encode(), now.encode()))
    return found


def rename(nar: bytes, changes: list[tuple[bytes, bytes]]) -> bytes:
    """The NAR with new hash parts; as long as it was."""
    for was, now in changes:
        nar = nar.replace(was, now)
    return nar


def delta_address(manifest: str, base: str, number: int) -> str:
    """Where a delta is, below the project's cache."""
    return f"manifest/{manifest.removeprefix(_PREFIX)}/deltas/{base.removeprefix(_PREFIX)}/{number}"
