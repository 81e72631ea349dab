"""What an attribute path that a release doesn't have may have meant. Pure."""

import difflib
from collections.abc import Sequence
from typing import Final

from piste.hub.errors import HubError
from piste.hub.registry.records import OutputRow
from piste.nix.flake_ref import FlakeRefError, format_attribute_path, parse_attribute_path

NEAR: Final = 5


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
    found = [row for row in recorded if ".".join(parse_attribute_path(row.attribute)) == wanted]
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
    """The attribute paths that are spelt most alike."""
    by_lower = {other.lower(): other for other in others}
    found = difflib.get_close_matches(attribute.lower(), by_lower, n=NEAR, cutoff=0.5)
    return [by_lower[one] for one in found]


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
