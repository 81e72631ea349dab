"""Deltas on the host: which of the offered ones are worth it, and NARs made of older ones that are here.

The base is read from the store, file by file; whatever comes of it has to have the NAR's hash like any other
bytes, so a wrong or damaged base can only fail. Must never hold more than one window of a base, or the few
megabytes of a group of small ones.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from piste.host.stored_nar import StoredNar
from piste.lib.delta import DeltaError, apply_delta
from piste.nix.nar import NarError
from piste.nix.store_path import STORE_DIR, StorePath
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.store import Store
from piste.wire.deltas import DeltaOffer, Deltas, delta_address, rename, renames
from piste.wire.manifest import Manifest
from piste.wire.runs import PlanError

# Of a line that nothing is known of; most are slower, and on faster ones little is lost.
_SPEED: Final = 12.5e6  # bytes a second
# What reading a base and making a NAR of it takes longer than to expand the NAR.
_WORK: Final = 400e6  # bytes a second


@dataclass(frozen=True)
class Rebuilding:
    """The deltas that are used, and what they build upon."""

    digest: str = ""  # of the manifest that the bases are in
    base: Manifest | None = None
    successors: dict[int, int] = field(default_factory=dict)
    offers: list[DeltaOffer] = field(default_factory=list)

    @property
    def places(self) -> set[int]:
        """What comes of them."""
        return {place for offer in self.offers for place in offer.places}


def choose(
    deltas: Deltas | None,
    digest: str | None,
    base: Manifest | None,
    manifest: Manifest,
    file_sizes: dict[int, int],
    daemon: Daemon,
    speed: float | None,
) -> Rebuilding:
    """Of the offers those whose bases are here, and that are faster than the files that they stand for.

    `file_sizes` are those of the missing paths. The bases are kept while the daemon's connection lasts.
    """
    if deltas is None or digest is None or base is None:
        return Rebuilding()
    try:
        successors = deltas.successors()
        worth = [offer for offer in deltas.offers if _is_worth(offer, base, manifest, file_sizes, speed)]
    except (PlanError, IndexError):
        return Rebuilding()  # of no use, and not needed
    return Rebuilding(digest, base, successors, _with_bases(worth, base, daemon))


def chosen_again(
    rebuilding: Rebuilding, spoiled: Collection[int], missing: Collection[int], daemon: Daemon
) -> Rebuilding:
    """Those that are still needed, without the ones of these numbers; their bases are kept by another
    connection now."""
    if rebuilding.base is None:
        return rebuilding
    lacking = set(missing)
    left = [
        offer
        for offer in rebuilding.offers
        if offer.number not in spoiled and not lacking.isdisjoint(offer.places)
    ]
    return replace(rebuilding, offers=_with_bases(left, rebuilding.base, daemon))


def _with_bases(offers: list[DeltaOffer], base: Manifest, daemon: Daemon) -> list[DeltaOffer]:
    paths = {at: StorePath.from_base_name(base.paths[at].path) for offer in offers for at in offer.bases}
    if not paths:
        return offers
    there = daemon.query_valid_paths(paths.values())
    daemon.add_temp_roots(there)
    there = daemon.query_valid_paths(there)
    return [offer for offer in offers if all(paths[at] in there for at in offer.bases)]


def _is_worth(
    offer: DeltaOffer, base: Manifest, manifest: Manifest, file_sizes: dict[int, int], speed: float | None
) -> bool:
    if len(offer.places) != len(offer.bases) or sorted(set(offer.places)) != offer.places or offer.size <= 0:
        return False
    saved = sum(file_sizes.get(place, 0) for place in offer.places) - offer.size
    work = sum(base.paths[at].nar_size for at in offer.bases)
    work += sum(manifest.paths[place].nar_size for place in offer.places)
    return min(offer.bases) >= 0 and saved / (speed or _SPEED) > work / _WORK


class Rebuilt:
    """The NARs that one delta makes. Take them in the order of its places, each to its end or not at all."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        rebuilding: Rebuilding,
        offer: DeltaOffer,
        pieces: Callable[[], Iterator[bytes]],
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._rebuilding = rebuilding
        self.offer = offer
        self._remaining = list(offer.places)
        self._rest = b""
        self._stream = self._apply(pieces)

    def nar(self, place: int) -> Iterator[bytes]:
        """The NAR at this place; DeltaError if it can't be made."""
        while self._remaining[0] != place:
            for _ in self._next():  # the host has it already
                pass
        yield from self._next()
        if not self._remaining:
            for _ in self._stream:
                raise DeltaError("the delta makes more than was said")

    def _next(self) -> Iterator[bytes]:
        left = self._manifest.paths[self._remaining.pop(0)].nar_size
        while left:
            piece = self._rest or next(self._stream, b"")
            if not piece:
                raise DeltaError("the delta makes less than was said")
            piece, self._rest = piece[:left], piece[left:]
            left -= len(piece)
            yield piece

    def _apply(self, pieces: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
        read, size = self._base()
        target = sum(self._manifest.paths[place].nar_size for place in self.offer.places)
        yield from apply_delta(read, size, pieces(), target)

    def _base(self) -> tuple[Callable[[int, int], bytes | bytearray | memoryview], int]:
        """How to read the base, and how long it is."""
        base = self._rebuilding.base
        if base is None:
            raise DeltaError("it builds upon nothing")
        with _readable():
            nars = [
                StoredNar(self._store.real_path(f"{STORE_DIR}/{base.paths[at].path}"))
                for at in self.offer.bases
            ]
            if self.offer.renamed or len(nars) > 1:
                held = b"".join(self._renamed(base, nars))
                return (lambda start, length: memoryview(held)[start : start + length]), len(held)

        def read(start: int, length: int) -> bytearray:
            with _readable():
                return nars[0].read(start, length)

        return read, nars[0].size

    def _renamed(self, base: Manifest, nars: Sequence[StoredNar]) -> Iterator[bytes]:
        successors = self._rebuilding.successors
        for place, at, nar in zip(self.offer.places, self.offer.bases, nars, strict=True):
            data = bytes(nar.read(0, nar.size))
            if self.offer.renamed:
                data = rename(data, renames(self._manifest, base, successors, place, at))
            yield data


def address_of(rebuilding: Rebuilding, manifest: str, offer: DeltaOffer) -> str:
    """Where a delta is, below the project's cache."""
    return delta_address(manifest, rebuilding.digest, offer.number)


@contextmanager
def _readable() -> Iterator[None]:
    """A base that can't be read makes the delta fail, and nothing else."""
    try:
        yield
    except (OSError, NarError) as error:
        raise DeltaError(f"the base can't be read: {error}") from error
