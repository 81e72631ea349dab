"""Closures: order, cycles, what is missing, and why something is in one."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix.closure import ClosureError, chain, reachable, topological_order

# Any graph in which a key refers only to lower ones and to itself has no cycle.
ACYCLIC = st.dictionaries(st.integers(0, 15), st.lists(st.integers(0, 15), max_size=6)).map(
    lambda graph: {key: [c for c in graph[key] if c <= key and c in graph] for key in graph}
)
GRAPHS = st.dictionaries(st.integers(0, 8), st.lists(st.integers(0, 8), max_size=4))


def naive_reach(graph: Mapping[int, list[int]], root: int) -> set[int]:
    seen = {root}
    while fresh := {c for key in seen for c in graph.get(key, [])} - seen:
        seen |= fresh
    return seen


@given(ACYCLIC)
def test_everything_comes_after_what_it_refers_to(graph: dict[int, list[int]]) -> None:
    order = topological_order(graph, graph)
    assert sorted(order) == sorted(graph)
    assert all(order.index(child) <= order.index(key) for key in graph for child in graph[key])


@given(ACYCLIC, st.randoms(use_true_random=False))
def test_the_order_depends_on_nothing_but_the_references(graph: dict[int, list[int]], random: object) -> None:
    shuffled = {key: list(reversed(graph[key])) for key in reversed(list(graph))}
    assert topological_order(graph, graph) == topological_order(shuffled, reversed(list(graph)))


@given(GRAPHS, st.integers(0, 8))
def test_order_and_reach_agree_with_the_naive_reach(graph: dict[int, list[int]], root: int) -> None:
    wanted = naive_reach(graph, root)
    assert reachable(graph, [root]) == wanted
    try:
        order = topological_order(graph, [root])
    except ClosureError:
        # Only for a cycle of two or more, or a reference to nothing.
        cyclic = any(key in naive_reach(graph, c) for key in wanted for c in graph.get(key, []) if c != key)
        assert cyclic or not wanted <= graph.keys()
        return
    assert set(order) == wanted


@given(GRAPHS, st.integers(0, 8), st.integers(0, 8))
def test_a_chain_leads_from_the_root_to_the_target(
    graph: dict[int, list[int]], root: int, target: int
) -> None:
    way = chain(graph, root, target)
    if way is None:
        assert target not in naive_reach(graph, root)
        return
    assert (way[0], way[-1]) == (root, target)
    assert all(after in graph[before] for before, after in pairwise(way))
    assert len(way) == len(set(way))


def test_a_chain_is_a_shortest_one() -> None:
    graph = {"a": ["b", "d"], "b": ["c"], "c": ["d"], "d": ["e"], "e": []}
    assert chain(graph, "a", "e") == ["a", "d", "e"]


def test_a_path_may_refer_to_itself_but_not_in_a_circle() -> None:
    assert topological_order({"a": ["a", "b"], "b": ["b"]}, ["a"]) == ["b", "a"]
    with pytest.raises(ClosureError, match="cycle: b → c → b"):
        topological_order({"a": ["b"], "b": ["c"], "c": ["b"]}, ["a"])


def test_what_is_missing_is_named_with_who_wants_it() -> None:
    graph = {"b": ["y", "x", "x"], "a": ["b", "z"], "c": []}
    with pytest.raises(ClosureError, match="nothing is known of x, to which b refers"):
        topological_order(graph, ["a"])
    with pytest.raises(ClosureError, match="nothing is known of q"):
        topological_order(graph, ["q"])


def test_a_chain_of_a_hundred_thousand_is_no_trouble() -> None:
    graph = {n: [n - 1] if n else [] for n in range(100_000)}
    assert topological_order(graph, [99_999]) == list(range(100_000))
