"""What the documentation has to speak of, read from the source: commands, variables, references of errors."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src" / "piste"
REFERENCE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
VARIABLE = re.compile(r"PISTE_[A-Z0-9_]+")


def commands() -> dict[str, set[str]]:
    """Every command as it is typed (`piste resolve`, `piste org upstream add`) with its flags."""
    app = importlib.import_module("piste.cli.main").make_app()
    return {
        " ".join(("piste", *path)): {
            name
            for argument in leaf.assemble_argument_collection()
            for name in argument.names
            if name.startswith("--")
        }
        for path, leaf in _leaves(app, ())
    }


def _leaves(app: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    # An application of cyclopts yields the names of its commands and gives each, imported, by its name.
    names = [name for name in app if not name.startswith("-")]
    if not names:
        yield path, app
    for name in names:
        yield from _leaves(app[name], (*path, name))


def variables(source: Path = SOURCE) -> set[str]:
    """Every PISTE_… that stands as a text of its own in the code."""
    return {text for text in _texts(source) if VARIABLE.fullmatch(text)}


def errors(source: Path = SOURCE) -> set[str]:
    """The hub's table of errors, and every reference that an error of ours is made with."""
    trees = [ast.parse(file.read_bytes(), str(file)) for file in sorted(source.rglob("*.py"))]
    classes = _error_classes(trees)
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            # A class of errors may give its reference to the one above it.
            if isinstance(node, ast.Call) and _name(node.func) in classes | {"__init__"}:
                found.update(_reference_of(node))
    return found | set(_table(source))


def _table(source: Path) -> list[str]:
    """The keys of ERRORS, without importing the hub."""
    tree = ast.parse((source / "hub" / "errors.py").read_bytes())
    for node in tree.body:
        if (
            isinstance(node, ast.AnnAssign)
            and _name(node.target) == "ERRORS"
            and isinstance(node.value, ast.Dict)
        ):
            return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    raise SystemExit("src/piste/hub/errors.py has no table ERRORS")


def _error_classes(trees: list[ast.Module]) -> set[str]:
    """The names of the classes that descend from PisteError."""
    bases = {
        node.name: {_name(base) for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    ours, before = {"PisteError"}, 0
    while len(ours) != before:
        before = len(ours)
        ours |= {name for name, parents in bases.items() if parents & ours}
    return ours


def _reference_of(call: ast.Call) -> set[str]:
    arguments = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "ref")]
    values = [node.value for node in arguments if isinstance(node, ast.Constant)]
    return {value for value in values if isinstance(value, str) and REFERENCE.fullmatch(value)}


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _texts(source: Path) -> Iterator[str]:
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
