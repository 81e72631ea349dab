"""The inventory of a flake as `flakehub-push` sends it: a tree by output type and name whose leaves may name
store paths. Pure.

Version 1 has the tree right below the output type, version 2 below `output`, with another leaf. Of versions
to come the parts that are known here are taken; what is not understood is no error: the whole is kept.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from piste.hub.publish.rules import SYSTEM
from piste.nix.flake_ref import FlakeRefError, format_attribute_path
from piste.wire.publication import DeclaredOutput

_STORE: Final = "/nix/store/"
_DEPTH: Final = 32  # names in an attribute path
_NAMES: Final = 50_000  # places in a tree, store path or not


class InventoryError(ValueError):
    """The tree is larger or deeper than any flake's."""


def outputs_of(inventory: object) -> list[DeclaredOutput]:
    """What the tree gives a store path for, to be recorded. A derivation whose path is not known before it is
    built (content-addressed) has none.
    """
    found = []
    for path, leaf in leaves(inventory):
        store_path = _store_path(leaf)
        if store_path is None:
            continue
        try:
            attribute = format_attribute_path(path)
        except FlakeRefError:
            continue  # has control characters: nobody can ask for it
        found.append(DeclaredOutput(attribute, store_path, _system(leaf), required=False))
    return found


def leaves(inventory: object) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """The leaves with their names; walked with a list, since how deep it goes is up to the client."""
    tree = inventory.get("inventory") if isinstance(inventory, Mapping) else None
    waiting: list[tuple[tuple[str, ...], Any]] = [
        ((kind,), _below_output(item)) for kind, item in (tree.items() if isinstance(tree, Mapping) else ())
    ]
    count = len(waiting)
    while waiting:
        path, item = waiting.pop()
        if not isinstance(item, Mapping):
            continue
        children = item.get("children")
        if not isinstance(children, Mapping):
            yield path, item
            continue
        count += len(children)
        if len(path) >= _DEPTH or count > _NAMES:
            raise InventoryError("the inventory of outputs is larger than any flake's")
        waiting += [((*path, name), child) for name, child in children.items()]


def _below_output(item: object) -> object:
    """Version 2 puts the tree of an output type beside its documentation."""
    if isinstance(item, Mapping) and "children" not in item and isinstance(item.get("output"), Mapping):
        return item["output"]
    return item


def _store_path(leaf: Mapping[str, Any]) -> str | None:
    """Of `out`, else of the first output."""
    outputs = leaf.get("outputs")
    derivation = leaf.get("derivation")
    if not isinstance(outputs, Mapping) and isinstance(derivation, Mapping):
        outputs = derivation.get("outputs")
    if not isinstance(outputs, Mapping):
        return None
    values = [outputs["out"]] if "out" in outputs else list(outputs.values())[:1]
    for value in values:
        path = value.get("path") if isinstance(value, Mapping) else value
        if isinstance(path, str) and path.startswith(_STORE):
            return path
    return None


def _system(leaf: Mapping[str, Any]) -> str | None:
    systems = leaf.get("forSystems")
    only = systems[0] if isinstance(systems, list) and len(systems) == 1 else None
    return only if isinstance(only, str) and SYSTEM.fullmatch(only) else None
