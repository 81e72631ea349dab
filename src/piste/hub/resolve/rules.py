"""What an attribute path that a release doesn't have may have meant. Pure."""

from collections.abc import Sequence
from itertools import islice
from typing import Final

from piste.hub.errors import HubError
from piste.hub.registry.records import OutputRow
from piste.nix.flake_ref import FlakeRefError, format_attribute_path, parse_attribute_path

NEAR: Final = 5
# Anybody can mistype, as often as he likes: longer names are not compared, nor more of them.
_LONG: Final = 200
_COMPARED: Final = 2000
_ALIKE: Final = 0.5  # 1: the same pairs of letters; 0: none in common


def parse_attribute(text: str) -> str:
    """An attribute path in its one spelling; HubError says what is wrong with it."""
    try:
        return format_attribute_path(parse_attribute_path(text))
    except FlakeRefError as error:
        raise HubError("bad-reference", f"{error}.") from error


def spelt_loosely(attribute: str, recorded: Sequence[OutputRow]) -> OutputRow | None:
    """The one output whose names, joined by dots, read like this: `x.a.b` for `x."a.b"`. Other clients know
    no quotes."""
    wanted = ".".join(parse_attribute_path(attribute))
    found = [row for row in recorded if _joined(row.attribute) == wanted]
    return found[0] if len(found) == 1 else None


def attribute_not_found(attribute: str, reference: str, others: Sequence[str]) -> HubError:
    """`others`: the release's attribute paths, empty for those who may not know them."""
    alike = near(attribute, others)
    if alike:
        hint = f"Did you mean {' or '.join(alike)}?"
    elif others:
        hint = f"`piste list outputs {reference}` lists those that it has."
    else:
        hint = "Ask whoever publishes it which outputs it has."
    return HubError("attribute-not-found", f"The release {reference} has no output {attribute}.", hint=hint)


def near(attribute: str, others: Sequence[str]) -> list[str]:
    """The attribute paths that are spelt most alike: that share most pairs of letters, which is soon counted
    whatever the names are."""
    if len(attribute) > _LONG:
        return []
    wanted = _pairs(attribute)
    compared = islice((other for other in others if len(other) <= _LONG), _COMPARED)
    alike = [(_likeness(wanted, _pairs(other)), other) for other in compared]
    found = sorted((-likeness, other) for likeness, other in alike if likeness >= _ALIKE)
    return [other for _, other in found[:NEAR]]


def _joined(attribute: str) -> str:
    """Without the quotes; few attribute paths have any."""
    return ".".join(parse_attribute_path(attribute)) if '"' in attribute else attribute


def _pairs(text: str) -> set[str]:
    lower = text.lower()
    return {lower[place : place + 2] for place in range(len(lower))}


def _likeness(one: set[str], other: set[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))


def not_available(attribute: str, reference: str, missing: int) -> HubError:
    if missing == 0:
        return HubError(
            "output-not-available",
            f"The output {attribute} of {reference} is complete, but no publisher has signed it yet.",
            hint="Its publisher publishes the same version again, with --signing-key-file.",
            context={"missing": "0"},
        )
    count = "1 path of its closure is" if missing == 1 else f"{missing} paths of its closure are"
    return HubError(
        "output-not-available",
        f"The output {attribute} of {reference} is recorded but not available: {count} missing.",
        hint="Its publisher pushes the missing paths with `piste cache push` or `nix copy`.",
        context={"missing": str(missing)},
    )


def not_in_order(attribute: str, error: Exception) -> HubError:
    """The error for an output whose closure is a circle, as no store has it."""
    return HubError(
        "output-not-available",
        f"The closure of {attribute} can't be put in order: {error}.",
        hint="What was pushed to the project's cache is no closure of a store.",
    )
