"""The paths of a closure or a publication, of which there may be a hundred thousand, in little memory.

What is said of a path waits in a file of the spool. Held are names, and references as numbers: they tell what
is whole, and in which order it can be imported. It may wait for the disk: use it in a thread.
"""

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from piste.hub.cache.records import PathRecord
from piste.lib.spooled import PAGE, Spooled
from piste.nix.closure import topological_order
from piste.wire.manifest import ManifestPath

_NOWHERE: Final = -1
_NONE: Final = array("I")


class Gathered(Spooled[PathRecord]):
    """Paths by base name. One that is only referred to, or is only expected, is known and not there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, PathRecord)
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        # By number: where in the file, and what it refers to.
        self._places = array("q")
        self._references: list[array[int]] = []
        self._told = 0
        self._expected: list[int] = []
        self._sorted: _Sorted | None = None

    def put(self, records: Sequence[PathRecord]) -> None:
        """They are there; in the place of what was known of them."""
        first = len(self)
        self.add(records)
        for place, record in enumerate(records, first):
            self._places[self._refer(record)] = place

    def expect(self, records: Iterable[PathRecord]) -> None:
        """They are not there, and what they refer to is known."""
        for record in records:
            self._expected.append(self._refer(record))

    def lacking(self, wanted: Iterable[str] = ()) -> list[str]:
        """What is known or wanted and not there, by name; of each it is told once."""
        for name in wanted:
            self._number(name)
        fresh = [*range(self._told, len(self._names)), *self._expected]
        self._told, self._expected = len(self._names), []
        return sorted({self._names[number] for number in fresh if self._places[number] == _NOWHERE})

    @property
    def missing(self) -> int:
        """How many are known and not there."""
        return self._places.count(_NOWHERE)

    def leave_out(self, names: Iterable[str]) -> None:
        """They are known and not there from now on."""
        for name in names:
            self._places[self._numbers[name]] = _NOWHERE

    def __contains__(self, name: str) -> bool:
        number = self._numbers.get(name)
        return number is not None and self._places[number] != _NOWHERE

    def references(self, name: str) -> list[str]:
        """Base names; none of what nothing is known of."""
        number = self._numbers.get(name)
        return [] if number is None else [self._names[each] for each in self._references[number]]

    def record(self, name: str) -> PathRecord:
        """KeyError for what is not there."""
        if name not in self:
            raise KeyError(name)
        return self[self._places[self._numbers[name]]]

    def pages(self) -> Iterator[list[PathRecord]]:
        """Those that are there by name, some at a time."""
        there = [number for number in self._by_name().numbers if self._places[number] != _NOWHERE]
        for start in range(0, len(there), PAGE):
            yield [self[self._places[number]] for number in there[start : start + PAGE]]

    def incomplete(self) -> set[str]:
        """Those that are not there, and whatever reaches one of them."""
        broken = [number for number, place in enumerate(self._places) if place == _NOWHERE]
        seen = set(broken)
        referrers = self._referrers() if broken else {}
        for number in broken:
            for referrer in referrers.get(number, _NONE):
                if referrer not in seen:
                    seen.add(referrer)
                    broken.append(referrer)
        return {self._names[number] for number in seen}

    def check_order(self, without: Iterable[str] = ()) -> None:
        """ClosureError where those that are there refer to one another in a circle."""
        there = array("q", self._places)
        for name in without:
            there[self._numbers[name]] = _NOWHERE
        graph = _Graph(self._by_name(), there, self._references, among=True)
        topological_order(graph, list(graph), shown=graph.name)

    def closure(self, root: str) -> Iterator[ManifestPath]:
        """The entries of the manifest of its closure, which ends with it. ClosureError for a circle, and for
        what is not there.
        """
        graph = _Graph(self._by_name(), self._places, self._references)
        start = graph.rank(self._number(root))
        order = array("I", topological_order(graph, [start], shown=graph.name))
        at = array("I", bytes(_NONE.itemsize * len(self._names)))
        for place, rank in enumerate(order):
            at[rank] = place
        for rank in order:
            record = self[self._places[graph.number(rank)]]
            yield ManifestPath(
                path=record.base_name,
                nar_hash=record.nar_hash,
                nar_size=record.nar_size,
                references=sorted(at[each] for each in graph[rank]),
                content_address=record.content_address,
            )

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
            self._places.append(_NOWHERE)
            self._references.append(_NONE)
            self._sorted = None
        return number

    def _refer(self, record: PathRecord) -> int:
        number = self._number(record.base_name)
        self._references[number] = array("I", [self._number(name) for name in record.references])
        return number

    def _referrers(self) -> Mapping[int, "array[int]"]:
        referrers: dict[int, array[int]] = defaultdict(lambda: array("I"))
        for number, references in enumerate(self._references):
            for reference in references:
                referrers[reference].append(number)
        return referrers

    def _by_name(self) -> "_Sorted":
        if self._sorted is None:
            self._sorted = _Sorted(self._names)
        return self._sorted


class _Sorted:
    """Numbers in the order of their names, in which a closure has one order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.numbers = array("I", sorted(range(len(names)), key=names.__getitem__))
        self.ranks = array("I", bytes(_NONE.itemsize * len(names)))
        for rank, number in enumerate(self.numbers):
            self.ranks[number] = rank


class _Graph(Mapping[int, list[int]]):
    """What is there and what it refers to, by rank. `among`: only to what is there itself."""

    def __init__(
        self,
        by_name: _Sorted,
        places: Sequence[int],
        references: Sequence[Collection[int]],
        *,
        among: bool = False,
    ) -> None:
        self._by_name = by_name
        self._places = places
        self._references = references
        self._among = among

    def name(self, rank: int) -> str:
        return self._by_name.names[self.number(rank)]

    def number(self, rank: int) -> int:
        return self._by_name.numbers[rank]

    def rank(self, number: int) -> int:
        return self._by_name.ranks[number]

    def __getitem__(self, rank: int) -> list[int]:
        number = self.number(rank)
        if self._places[number] == _NOWHERE:
            raise KeyError(rank)
        ranks = self._by_name.ranks
        return [
            ranks[each]
            for each in self._references[number]
            if not self._among or self._places[each] != _NOWHERE
        ]

    def __iter__(self) -> Iterator[int]:
        return (rank for rank, number in enumerate(self._by_name.numbers) if self._places[number] != _NOWHERE)

    def __len__(self) -> int:
        return sum(place != _NOWHERE for place in self._places)
