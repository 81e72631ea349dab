"""Closures: what a store path reaches through references, in the order in which it can be imported.

Works on any sortable keys: full paths, hash parts, StorePaths. Never recurses, since chains can be long.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar


class _Sortable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...

    def __hash__(self) -> int: ...


K = TypeVar("K", bound=_Sortable)


class ClosureError(ValueError):
    """The references form a cycle, or lead to something that is not there."""


def topological_order(
    references: Mapping[K, Iterable[K]], roots: Iterable[K], *, shown: Callable[[K], str] = str
) -> list[K]:
    """Everything that the roots reach, each after all that it refers to. The same input gives the same order.

    A path may refer to itself; any other cycle, and a reference to a key that the mapping lacks, is an error,
    which names keys as they are `shown`.
    """
    order: list[K] = []
    done: set[K] = set()
    for root in sorted(roots):
        _visit(references, root, done, order, shown)
    return order


def _visit(
    references: Mapping[K, Iterable[K]], root: K, done: set[K], order: list[K], shown: Callable[[K], str]
) -> None:
    if root in done:
        return
    # The way from the root to where we are, with what is still to be seen at each step.
    trail: dict[K, Iterator[K]] = {root: _children(references, root, None, shown)}
    while trail:
        key = next(reversed(trail))
        child = next(trail[key], None)
        if child is None:
            trail.popitem()
            done.add(key)
            order.append(key)
        elif child in trail:
            raise ClosureError(f"the references form a cycle: {_cycle(list(trail), child, shown)}")
        elif child not in done:
            trail[child] = _children(references, child, key, shown)


def _children(
    references: Mapping[K, Iterable[K]], key: K, parent: K | None, shown: Callable[[K], str]
) -> Iterator[K]:
    try:
        children = references[key]
    except KeyError:
        wanted = "" if parent is None else f", to which {shown(parent)} refers"
        raise ClosureError(f"nothing is known of {shown(key)}{wanted}") from None
    return iter(sorted({child for child in children if child != key}))


def _cycle(trail: list[K], start: K, shown: Callable[[K], str]) -> str:
    return " → ".join(shown(key) for key in [*trail[trail.index(start) :], start])


def reachable(references: Mapping[K, Iterable[K]], roots: Iterable[K]) -> set[K]:
    """Everything that the roots reach, the roots too; an unknown key refers to nothing."""
    seen = set(roots)
    waiting = list(seen)
    while waiting:
        fresh = set(references.get(waiting.pop(), ())) - seen
        seen |= fresh
        waiting.extend(fresh)
    return seen


def chain(references: Mapping[K, Iterable[K]], root: K, target: K) -> list[K] | None:
    """A shortest way of references from the root to the target, both included; None when there is none."""
    came_from: dict[K, K | None] = {root: None}
    waiting = deque([root])
    while waiting:
        key = waiting.popleft()
        if key == target:
            return _walk_back(came_from, key)
        for child in sorted(references.get(key, ())):
            if child not in came_from:
                came_from[child] = key
                waiting.append(child)
    return None


def _walk_back(came_from: Mapping[K, K | None], key: K) -> list[K]:
    way = [key]
    while (previous := came_from[way[-1]]) is not None:
        way.append(previous)
    return way[::-1]
