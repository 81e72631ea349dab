"""NARs from deltas: what is in the store, with what the hub says has changed.

Nothing that comes of it counts before its NarHash was checked. Whatever is unusual (a base that is not there,
one that was changed, a delta that is damaged) is a DeltaError, and the full NAR is fetched instead.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piste.host.stored_nar import StoredNar
from piste.lib.delta import DeltaError, apply_delta
from piste.nix.nar import NarError
from piste.nixcmd.store import Store
from piste.wire.deltas import DeltaOffer, Deltas, rename, renames
from piste.wire.manifest import Manifest

# In a larger one the hub renames nothing: it is read in windows, and hashes are little of it.
_RENAMED_LIMIT: Final = 64 << 20


@dataclass(frozen=True)
class Pair:
    """A manifest and the one that its deltas are made against."""

    manifest: Manifest
    base: Manifest
    successors: Mapping[int, int]  # place in the manifest → place in the base's

    @classmethod
    def of(cls, manifest: Manifest, base: Manifest, deltas: Deltas) -> "Pair":
        """PlanError where the answer does not hold together."""
        return cls(manifest, base, deltas.successors())


def nars_of(
    store: Store, pair: Pair, offer: DeltaOffer, delta: Iterable[bytes]
) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Each place that the offer has, with the pieces of its NAR; take each to its end before the next.

    `delta` are the pieces of the delta as they were received. Memory: one window of the base and one of
    zstd's, some 60 MB in all, for as long as the iterator lives.
    """
    try:
        base = _Base(store, pair, offer)
        sizes = [pair.manifest.paths[place].nar_size for place in offer.places]
    except IndexError as error:
        raise DeltaError("the offer names paths that there are not") from error
    pieces = apply_delta(base.read, base.size, delta, sum(sizes))
    rest = b""
    for place, size in zip(offer.places, sizes, strict=True):
        taken = _Taken(pieces, rest, size)
        yield place, iter(taken)
        if taken.left:
            raise DeltaError("the NAR before was not taken to its end")
        rest = taken.rest
    # What else is wrong with the delta shows at its end.
    if rest or next(pieces, b""):
        raise DeltaError("more came out than was to be made")


class _Base:
    """The NARs of an offer's base, one after another."""

    def __init__(self, store: Store, pair: Pair, offer: DeltaOffer) -> None:
        if len(offer.places) != len(offer.bases):
            raise DeltaError("the offer does not hold together")
        self._parts: list[tuple[int, int, Path, list[tuple[bytes, bytes]]]] = []
        self._open: tuple[int, StoredNar] | None = None
        self.size = 0
        for place, base_place in zip(offer.places, offer.bases, strict=True):
            entry = pair.base.paths[base_place]
            changes = (
                renames(pair.manifest, pair.base, pair.successors, place, base_place) if offer.renamed else []
            )
            if changes and entry.nar_size > _RENAMED_LIMIT:
                raise DeltaError("the offer wants more than can be held")
            path = store.real_path(f"{pair.base.store_dir}/{entry.path}")
            self._parts.append((self.size, entry.nar_size, path, changes))
            self.size += entry.nar_size

    def read(self, start: int, length: int) -> bytearray:
        """Some bytes; fewer where the base is shorter."""
        try:
            return self._read(start, length)
        except (OSError, NarError) as error:
            raise DeltaError(f"the base can't be read: {error}") from error

    def _read(self, start: int, length: int) -> bytearray:
        wanted = bytearray()
        for number, (first, size, _, changes) in enumerate(self._parts):
            if length and first <= start < first + size:
                count = min(length, first + size - start)
                nar = self._nar(number)
                if changes:
                    whole = rename(bytes(nar.read(0, size)), changes)
                    wanted += whole[start - first : start - first + count]
                elif wanted:
                    wanted += nar.read(start - first, count)
                else:
                    wanted = nar.read(start - first, count)
                start, length = start + count, length - count
        return wanted

    def _nar(self, number: int) -> StoredNar:
        if self._open is None or self._open[0] != number:
            self._open = number, StoredNar(self._parts[number][2])
        nar = self._open[1]
        if nar.size != self._parts[number][1]:
            raise DeltaError(f"{self._parts[number][2]} is not what the release before says")
        return nar


class _Taken:
    """As many bytes of the pieces as one NAR has."""

    def __init__(self, pieces: Iterator[bytes], rest: bytes, size: int) -> None:
        self.left = size
        self.rest = rest
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            piece = self.rest or next(self._pieces, b"")
            if not piece:
                raise DeltaError("the delta ends too early")
            self.rest = piece[self.left :]
            piece = piece[: self.left]
            self.left -= len(piece)
            yield piece
