"""What is asked for together: small NARs in bundles, large ones in parts, each in import order.

Small ones of the hub's cache that stand near one another come as one answer, in which nothing tells where one
ends: the sources said how long each is. A wrong length ends as a NAR that is not what was promised.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from piste.client.planning import format_places

_SMALL: Final = 512 * 1024  # compressed; from here on a NAR is worth a request of its own
_BUNDLE: Final = 2 << 20  # what is wanted first must not wait long for the rest of its bundle
_COUNT: Final = 128
_SPREAD: Final = 256  # items that a bundle may reach over
_PART: Final = 8 << 20  # what one request brings of a large NAR
_WHOLE: Final = 12 << 20  # up to here a NAR is not worth cutting


@dataclass(frozen=True, slots=True)  # there are as many as there are paths
class Item:
    """Bytes that come in one piece: a NAR as it is kept, or a part of it."""

    place: int  # in the manifest
    url: str
    size: int | None  # None: not known before
    estimate: int  # the same for the books, which need a number
    from_cache: bool  # takes the token of the closure
    key: str | None = None  # names the file among all that there are; None: it can't be taken up again
    start: int = 0  # within the file
    part: bool = False  # more of the file follows
    last: bool = True  # of the file
    together: bool = False  # may be in a bundle

    @property
    def small(self) -> bool:
        return self.together and not self.part and self.size is not None and self.size < _SMALL


def parts_of(item: Item) -> list[Item]:
    """A large NAR in parts, so that several connections bring it, and what came need not come again."""
    if item.size is None or item.size <= _WHOLE or item.key is None:
        return [item]
    starts = range(0, item.size, _PART)
    return [
        replace(
            item,
            start=start,
            size=(size := min(_PART, item.size - start)),
            estimate=size,
            part=True,
            last=start == starts[-1],
        )
        for start in starts
    ]


def group(items: Sequence[Item], wanted: Iterable[int]) -> list[list[int]]:
    """The numbers in `wanted`, as one list for each request; the lists are in order of their first."""
    groups: list[list[int]] = []
    seen: set[str] = set()
    bundle: list[int] = []
    room = 0
    for number in wanted:
        item = items[number]
        if not item.small or item.size is None or item.url in seen:
            groups.append([number])
            continue
        seen.add(item.url)
        if not bundle or item.size > room or len(bundle) >= _COUNT or number - bundle[0] > _SPREAD:
            bundle = []
            groups.append(bundle)
            room = _BUNDLE
        bundle.append(number)
        room -= item.size
    return groups


def address(manifest: str, places: Sequence[int]) -> str:
    """Where, below the cache, these NARs of a manifest (`sha256:<hex>`) are one answer of the hub."""
    digest = manifest.removeprefix("sha256:")
    return f"manifest/{digest}/nars?places={format_places(places)}"
