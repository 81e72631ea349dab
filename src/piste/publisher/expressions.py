"""The Nix expressions by which a flake's outputs are found. Text in, text out; nothing is evaluated here.

A flake's outputs of the standard kinds stand at `KIND.SYSTEM.NAME`, `formatter.SYSTEM`, or `KIND.NAME` for
configurations. `legacyPackages` is left out, as everywhere: it may hold all of nixpkgs.
"""

from collections.abc import Sequence
from typing import Final

from piste.nix.flake_ref import AttributePath

PER_SYSTEM: Final = ("packages", "devShells", "checks", "apps")
CONFIGURATIONS: Final = ("nixosConfigurations", "darwinConfigurations", "homeConfigurations")
FORMATTER: Final = "formatter"
KINDS: Final = (*PER_SYSTEM, FORMATTER, *CONFIGURATIONS)

# What of a configuration is built: what its own tool would activate.
_ACTIVATED: Final = {
    "nixosConfigurations": "value.config.system.build.toplevel",
    "darwinConfigurations": "value.system",
    "homeConfigurations": "value.activationPackage",
}

_DESCRIBE: Final = """
  describe = system: text: {
    path = builtins.unsafeDiscardStringContext text;
    context = builtins.mapAttrs (_: value: value.outputs or [ ]) (builtins.getContext text);
    system = builtins.unsafeDiscardStringContext system;
  };
  built = value: describe (value.system or "") (
    if builtins.isAttrs value && value ? outPath then value.outPath else throw "this is not a derivation");
"""


def names_of_kinds(url: str, kinds: Sequence[str]) -> str:
    """For each kind: its names, or for kinds that have systems a set of names by system."""
    items = []
    for kind in kinds:
        value = f"(outputs.{quote(kind)} or {{ }})"
        if kind in PER_SYSTEM:
            items.append(f"(builtins.mapAttrs (_: names) {value})")
        else:
            items.append(f"(names {value})")
    return _over(
        url, "names = value: if builtins.isAttrs value then builtins.attrNames value else [ ];", items
    )


def names_at(url: str, paths: Sequence[AttributePath]) -> str:
    """For each attribute path: the names in the set that stands there."""
    return _over(url, "", [f"(builtins.attrNames {_select(path)})" for path in paths])


def outputs_at(url: str, paths: Sequence[AttributePath]) -> str:
    """For each attribute path: its store path, what to realise for it, and its system."""
    return _over(url, _DESCRIBE, [_output(path) for path in paths])


def _output(path: AttributePath) -> str:
    kind = path[0]
    if kind == "apps" and len(path) == 3:
        return f"(describe {quote(path[1])} {_select(path)}.program)"
    if kind in _ACTIVATED and len(path) == 2:
        return f"(let value = {_select(path)}; in built ({_ACTIVATED[kind]}))"
    return f"(built {_select(path)})"


def _over(url: str, definitions: str, items: Sequence[str]) -> str:
    listed = "\n  ".join(items)
    return f"let outputs = (builtins.getFlake {quote(url)}).outputs; {definitions} in [\n  {listed}\n]"


def _select(path: AttributePath) -> str:
    return "outputs." + ".".join(map(quote, path))


def quote(text: str) -> str:
    """A string of the Nix language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
