"""Where the NARs of a manifest are and who vouches for their paths, kept in the columns that they came in.

There may be as many as a closure has paths, and of most of them one thing is asked at a time: one is put
together when it is asked for. Must believe nothing of what it is told: what is wrong is a PlanError here, or
a NAR that is not what its manifest promised.
"""

from array import array
from collections.abc import Iterator, Mapping
from typing import Final

from piste.wire.manifest import Manifest
from piste.wire.plan import SIGNATURE, PackedSources
from piste.wire.resolution import NarSource
from piste.wire.runs import PlanError, pairs_of, places_of

_NONE: Final = -1
_HASH_PREFIX: Final = "sha256:"


class Sources(Mapping[int, NarSource]):
    """By place in the manifest; grows by `add` and `put`."""

    def __init__(self, manifest: Manifest) -> None:
        self._paths = manifest.paths
        self._number = array("q", [_NONE]) * len(manifest.paths)  # by place: which of the following
        self._sizes = array("q")
        self._signed_by = array("q")
        self._signed_at = array("q")
        self._signers: list[list[str]] = []
        self._signatures = ""
        self._urls: dict[int, str] = {}
        self._compressions: dict[int, str] = {}
        self._others: dict[int, list[str]] = {}
        self._whole: dict[int, NarSource] = {}

    def add(self, packed: PackedSources) -> None:
        """Take what the hub told of some more paths; PlanError if it can't be read."""
        first, at = len(self._signers), len(self._signatures)
        try:
            places = places_of(packed.places)
            signed_by = (which for which, count in pairs_of(packed.signed_by) for _ in range(count))
            counts = [len(names) for names in packed.signers]
            for place, size, which in zip(places, packed.file_sizes, signed_by, strict=True):
                if which < 0:
                    raise PlanError("there are no such signers")
                self._number[place] = len(self._sizes)
                self._sizes.append(size)
                self._signed_by.append(first + which)
                self._signed_at.append(at)
                at += counts[which] * SIGNATURE
        except (IndexError, OverflowError, ValueError) as error:
            raise PlanError("the list of NARs does not hold together") from error
        self._signers += packed.signers
        self._signatures += packed.signatures
        self._urls |= packed.urls
        self._compressions |= packed.compressions
        self._others |= packed.others

    def put(self, place: int, source: NarSource) -> None:
        """Take one as it is."""
        self._whole[place] = source

    def file_size(self, place: int) -> int | None:
        """That of one of them, without the rest."""
        if place in self._whole:
            return self._whole[place].file_size
        size = self._sizes[self._at(place)]
        return size if size >= 0 else None

    def __getitem__(self, place: int) -> NarSource:
        if place in self._whole:
            return self._whole[place]
        number = self._at(place)
        names, at = self._signers[self._signed_by[number]], self._signed_at[number]
        signatures = [
            f"{name}:{self._signatures[start : start + SIGNATURE]}=="
            for name, start in zip(names, range(at, at + len(names) * SIGNATURE, SIGNATURE), strict=True)
        ]
        size = self._sizes[number]
        return NarSource(
            url=self._urls.get(place)
            or f"nar/{self._paths[place].nar_hash.removeprefix(_HASH_PREFIX)}.nar.zst",
            compression=self._compressions.get(place, "zstd"),
            signatures=[*signatures, *self._others.get(place, ())],
            file_size=size if size >= 0 else None,
        )

    def __contains__(self, place: object) -> bool:
        return place in self._whole or (
            isinstance(place, int) and 0 <= place < len(self._number) and self._number[place] != _NONE
        )

    def __iter__(self) -> Iterator[int]:
        return (place for place in range(len(self._number)) if place in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _at(self, place: int) -> int:
        if place not in self:
            raise KeyError(place)
        return self._number[place]


def unpack_sources(packed: PackedSources, manifest: Manifest) -> Sources:
    """By place in the manifest; PlanError if it can't be read."""
    sources = Sources(manifest)
    sources.add(packed)
    return sources
