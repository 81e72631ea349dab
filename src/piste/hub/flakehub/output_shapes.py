"""What a release has, in the two forms of FlakeHub's API: store paths nested by name, and groups by kind and
platform. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from piste.hub.flakehub.inventory import leaves
from piste.nix.flake_ref import AttributePath, parse_attribute_path
from piste.wire.releases import Output

# What a flake's schemas call the outputs of a kind, where no inventory says it.
_WHAT: Final = {
    "apps": "app",
    "checks": "CI test",
    "darwinConfigurations": "nix-darwin configuration",
    "devShells": "development environment",
    "formatter": "formatter",
    "homeConfigurations": "Home Manager configuration",
    "nixosConfigurations": "NixOS configuration",
    "packages": "package",
}


class _Document(msgspec.Struct, frozen=True):
    """The part of what `flakehub-push` said that is of use here."""

    outputs: Any = None


class _Shown(msgspec.Struct, frozen=True):
    doc: str | None
    for_systems: list[str]
    path: list[str]
    short_description: str | None
    what: str | None


def output_tree(outputs: Sequence[Output]) -> dict[str, Any]:
    """Store paths of what is available, nested by the names of their attribute paths.

    Where one output lies below another, the rest of its names is one key beside that one's last name.
    """
    tree: dict[str, Any] = {}
    for output in outputs:
        if output.available:
            _grow(tree, list(parse_attribute_path(output.attribute)), output.store_path)
    return tree


def output_groups(outputs: Sequence[Output], document: str | None) -> dict[str, Any]:
    """All outputs, those without a store path too as far as `document` names them: the metadata of a release
    that came by `flakehub-push`. CPU work for a large flake."""
    inventory = msgspec.json.decode(document, type=_Document).outputs if document is not None else None
    shown = {each: _recorded(each, output) for each, output in _by_path(outputs)}
    shown |= {path: _described(path, leaf) for path, leaf in leaves(inventory)}
    by_kind: dict[str, dict[str | None, list[_Shown]]] = {}
    for path in sorted(shown):
        one = shown[path]
        platform = one.for_systems[0] if len(one.for_systems) == 1 else None
        by_kind.setdefault(path[0], {}).setdefault(platform, []).append(one)
    return {
        kind: {
            "name": kind,
            "doc": _doc_of(inventory, kind),
            "outputs": [{"platform": platform, "outputs": found} for platform, found in by_platform.items()],
        }
        for kind, by_platform in by_kind.items()
    }


def _grow(tree: dict[str, Any], names: list[str], leaf: str) -> None:
    name, rest = names[0], names[1:]
    below = tree.get(name)
    if not rest:
        tree[name] = leaf
    elif isinstance(below, str):
        tree[".".join(names)] = leaf
    else:
        _grow(tree.setdefault(name, {}), rest, leaf)


def _by_path(outputs: Sequence[Output]) -> Iterator[tuple[AttributePath, Output]]:
    for output in outputs:
        yield parse_attribute_path(output.attribute), output


def _recorded(path: AttributePath, output: Output) -> _Shown:
    systems = [output.system] if output.system is not None else []
    return _Shown(None, systems, list(path), None, _WHAT.get(path[0]))


def _described(path: AttributePath, leaf: Mapping[str, Any]) -> _Shown:
    systems = leaf.get("forSystems")
    return _Shown(
        doc=_text(leaf.get("doc")),
        for_systems=[each for each in systems if isinstance(each, str)] if isinstance(systems, list) else [],
        path=list(path),
        short_description=_text(leaf.get("shortDescription")),
        what=_text(leaf.get("what")) or _WHAT.get(path[0]),
    )


def _doc_of(inventory: Any, kind: str) -> str | None:
    """Version 1 has the documentation of kinds beside their trees, version 2 within."""
    if not isinstance(inventory, Mapping):
        return None
    docs, trees = inventory.get("docs"), inventory.get("inventory")
    if isinstance(docs, Mapping) and kind in docs:
        return _text(docs[kind])
    item = trees.get(kind) if isinstance(trees, Mapping) else None
    return _text(item.get("doc")) if isinstance(item, Mapping) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
