"""Which NARs are asked for together, and what comes of that taken apart again.

Small ones that follow one another in import order come as one answer of the hub, in which nothing tells where
one ends: the sources said how long each is. A wrong length ends as a NAR that is not what was promised.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from piste.wire.resolution import NarSource

_SMALL: Final = 512 * 1024  # compressed; from here on a NAR is worth a request of its own
_BUNDLE: Final = 2 << 20  # what is wanted first must not wait long for the rest of its bundle
_COUNT: Final = 128


def group(sources: Sequence[NarSource], missing: Sequence[int]) -> list[list[int]]:
    """The places of `missing`, in their order, as one list for each request."""
    groups: list[list[int]] = []
    seen: set[str] = set()
    room = 0
    for place in missing:
        source = sources[place]
        size = source.file_size
        if size is None or size >= _SMALL or "://" in source.url or source.url in seen:
            groups.append([place])
            room = 0
            continue
        seen.add(source.url)
        if size > room or len(groups[-1]) >= _COUNT:
            groups.append([])
            room = _BUNDLE
        groups[-1].append(place)
        room -= size
    return groups


def address(manifest: str, places: Sequence[int]) -> str:
    """Where, below the cache, these NARs of a manifest (`sha256:<hex>`) are one answer of the hub."""
    digest = manifest.removeprefix("sha256:")
    starts = [places[0]] + [later for earlier, later in pairwise(places) if later != earlier + 1]
    ends = [earlier for earlier, later in pairwise(places) if later != earlier + 1] + [places[-1]]
    ranges = (
        f"{start}-{end}" if end > start else f"{start}" for start, end in zip(starts, ends, strict=True)
    )
    return f"manifest/{digest}/nars?places={','.join(ranges)}"


class Parts:
    """The pieces of one answer, cut where one NAR ends and the next begins. Take each part to its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def part(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes; fewer where the answer ends before."""
        while size:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                return
            self._rest = piece[size:]
            if self._rest:
                piece = piece[:size]
            size -= len(piece)
            yield piece

    def remainder(self) -> Iterator[bytes]:
        """Everything that is left."""
        if self._rest:
            yield self._rest
        yield from self._pieces
