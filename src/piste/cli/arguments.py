"""Reading what people type: `ORG/PROJECT`, references, durations. Mistakes are usage errors that teach."""

import re
from pathlib import Path
from typing import Final

from piste.lib.errors import UsageError
from piste.nix import flake_ref
from piste.nix.flake_ref import (
    AttributePath,
    FlakeRefError,
    Reference,
    parse_attribute_path,
    parse_reference,
)
from piste.nix.store_path import STORE_DIR, StorePath, StorePathError
from piste.semver.requirement import Requirement, RequirementError
from piste.semver.version import Version, VersionError

_LINKS: Final = 40  # as many as Linux itself follows
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


def parse_project(text: str) -> tuple[str, str]:
    """`ORG/PROJECT` as two names."""
    try:
        return flake_ref.parse_project(text)
    except FlakeRefError as error:
        raise UsageError("bad-name", f"{error}.") from error


def parse_versioned(text: str, *, default: str | None = None) -> tuple[str, str, str]:
    """`ORG/PROJECT/REQUIREMENT`; the last part may be left out where there is a default."""
    parts = text.split("/", 2)
    if len(parts) == 2 and default is not None:
        parts.append(default)
    if len(parts) != 3 or not parts[2].strip():
        raise UsageError(
            "bad-name",
            f"{text!r} does not name a version.",
            hint="It has the form ORG/PROJECT/REQUIREMENT, for example acme/web/=1.4.0.",
        )
    organization, project = parse_project("/".join(parts[:2]))
    return organization, project, parts[2]


def parse_release(text: str) -> tuple[str, str, str]:
    """`ORG/PROJECT/=1.4.0`, or with the version alone: one exact release."""
    organization, project, version = parse_versioned(text)
    try:
        exact = (
            Requirement.parse(version).exact_version() if version.startswith("=") else Version.parse(version)
        )
    except (RequirementError, VersionError):
        exact = None
    if exact is None:
        raise UsageError(
            "bad-version",
            f"{version!r} does not name one version.",
            hint=f"For example {organization}/{project}/=1.4.0; "
            f"`piste list releases {organization}/{project}` lists them.",
        )
    return organization, project, str(exact)


def read_reference(text: str, hub: str | None = None) -> Reference:
    """`ORG/PROJECT[/REQUIREMENT]#ATTRIBUTE`, or the same as an address of the hub."""
    try:
        return parse_reference(text, hub)
    except FlakeRefError as error:
        raise UsageError(
            "bad-reference",
            f"{error}.",
            hint="For example acme/web/0.1#nixosConfigurations.web.",
        ) from error


def read_attribute(text: str) -> AttributePath:
    """`nixosConfigurations.web`, names with dots in double quotes."""
    try:
        return parse_attribute_path(text)
    except FlakeRefError as error:
        raise UsageError("bad-reference", f"{error}.") from error


def parse_duration(text: str) -> int:
    """`90d`, `12h`, `30m`: seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhdwy])", text.strip())
    if not found:
        raise UsageError(
            "bad-duration", f"{text!r} is not a length of time.", hint="For example 90d, 12h or 30m."
        )
    return int(found[1]) * _UNITS[found[2]]


def read_store_path(text: str) -> StorePath:
    """A store path, something within one, or a link to one such as `./result`."""
    place = text
    for _ in range(_LINKS):
        if place.startswith(f"{STORE_DIR}/"):
            break
        try:
            place = str(Path(place).parent / Path(place).readlink())
        except OSError:
            break
    try:
        return StorePath.parse("/".join(place.split("/")[:4]))
    except StorePathError as error:
        raise UsageError(
            "bad-path",
            f"{text!r} is neither a store path nor a link to one.",
            hint="For example ./result, which `nix build` leaves, or what `nix path-info` prints.",
        ) from error
