"""Lists of numbers as pairs, since places of a manifest come in long rows.

A row is the first number and how many there are: each one more than the one before, or the same again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_COUNT_LIMIT: Final = 1_000_000


class PlanError(ValueError):
    """The answer can't be what the hub meant."""


def places_of(runs: Sequence[int]) -> list[int]:
    """Places that are written as pairs of the first one and how many there are."""
    places = [place for start, count in pairs_of(runs) for place in range(start, start + count)]
    if any(place < 0 for place in places):
        raise PlanError("a place is before the first one")
    return places


def runs_of(places: Iterable[int]) -> list[int]:
    """The pairs for places in their order."""
    runs = Runs(steps=True)
    for place in places:
        runs.add(place)
    return runs.pairs


def pairs_of(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of a list; a run is never longer than a list of this kind may be."""
    for start, count in zip(numbers[::2], numbers[1::2], strict=True):
        if not 0 <= count <= _COUNT_LIMIT:
            raise PlanError("a run of places has no length that can be")
        yield start, count


class Runs:
    """Numbers as pairs of the first one and how many follow: each one more (`steps`), or the same again."""

    def __init__(self, *, steps: bool) -> None:
        self.pairs: list[int] = []
        self._steps = steps

    def add(self, number: int) -> None:
        if self.pairs:
            start, count = self.pairs[-2:]
            if number == (start + count if self._steps and start >= 0 else start):
                self.pairs[-1] += 1
                return
        self.pairs += [number, 1]
