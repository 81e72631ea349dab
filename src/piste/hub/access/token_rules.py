"""What may be asked of a new token. Pure decisions; HubError says what is wrong."""

from dataclasses import dataclass
from typing import Final

from piste.hub.access.records import Actor, Kind, Permission, Role
from piste.hub.access.rules import permissions_of
from piste.hub.db.base import Row
from piste.hub.errors import HubError
from piste.nix.flake_ref import FlakeRefError, format_attribute_path, parse_attribute_path
from piste.semver.requirement import Requirement, RequirementError
from piste.semver.version import Version, VersionError
from piste.wire.tokens import NewToken

_DAY: Final = 86400
DEFAULT_SECONDS: Final = {Kind.USER: 90 * _DAY, Kind.DEVICE: 365 * _DAY, Kind.RESOLVE_ONLY: 365 * _DAY}
_MAX_SECONDS: Final = 3660 * _DAY
_MAX_DESCRIPTION: Final = 200
_MAX_ALLOWED: Final = 20
MAX_TOGETHER: Final = 5000
# Shorter ones are as good as none: for half a minute a process may go by what it remembers.
_MIN_OVERLAP: Final = 60
_MAX_OVERLAP: Final = 90 * _DAY


@dataclass(frozen=True)
class TokenBounds:
    """What a resolve-only token is bound to, in its canonical form."""

    requirement: str
    attribute: str
    minimum_version: str | None


def check_kind(asked: NewToken) -> Kind:
    if asked.kind not in DEFAULT_SECONDS:
        raise HubError(
            "bad-request",
            f"{asked.kind[:40]!r} is not a kind of token.",
            hint="user, device or resolve-only.",
        )
    described = asked.description.strip() and asked.description.isprintable()
    if not described or len(asked.description) > _MAX_DESCRIPTION:
        # It is shown on other people's terminals.
        raise HubError(
            "bad-request", f"A token needs a description of up to {_MAX_DESCRIPTION} printable characters."
        )
    kind = Kind(asked.kind)
    bound = (asked.project, asked.requirement, asked.attribute, asked.minimum_version)
    if kind is not Kind.RESOLVE_ONLY and any(value is not None for value in bound):
        raise HubError("bad-request", "Project, requirement and attribute belong to resolve-only tokens.")
    if kind is not Kind.USER and asked.person is not None:
        raise HubError("bad-request", f"A {kind} token belongs to no person.")
    return kind


def lifetime(kind: Kind, asked: int | None) -> int:
    """Seconds until the token expires."""
    seconds = DEFAULT_SECONDS[kind] if asked is None else asked
    if not 0 < seconds <= _MAX_SECONDS:
        raise HubError("bad-request", "A token lives for at least a second and at most ten years.")
    return seconds


def overlap(asked: int) -> int:
    """Seconds for which a token that is replaced goes on, unless it ends by itself before."""
    if asked != 0 and not _MIN_OVERLAP <= asked <= _MAX_OVERLAP:
        raise HubError(
            "bad-request", "The old token goes on for at least a minute and at most 90 days, or 0."
        )
    return asked


def check_rotatable(row: Row, now: int) -> None:
    """Only a token that holds is replaced, and only once."""
    if row["revoked_at"] is not None or (row["expires_at"] is not None and row["expires_at"] <= now):
        raise HubError("bad-request", "This token has ended.", hint="Create a new one.")
    if row["replaced_by"] is not None:
        raise HubError(
            "bad-request",
            f"This token was replaced already, by {row['replaced_by']}.",
            hint="Rotate that one, or revoke it and create another.",
        )


def check_bounds(asked: NewToken) -> TokenBounds:
    """Requirement, attribute and minimum version of a resolve-only token."""
    if asked.requirement is None or asked.attribute is None or asked.project is None:
        raise HubError(
            "bad-request", "A resolve-only token needs a project, a requirement and an attribute path."
        )
    try:
        Requirement.parse(asked.requirement)
    except RequirementError as error:
        raise HubError("bad-requirement", f"{error}") from error
    try:
        attribute = parse_attribute_path(asked.attribute)
    except FlakeRefError as error:
        raise HubError("bad-reference", f"{error}") from error
    if not attribute:
        raise HubError(
            "bad-reference", "The attribute path is empty.", hint="For example nixosConfigurations.web."
        )
    return TokenBounds(
        asked.requirement.strip(), format_attribute_path(attribute), _minimum(asked.minimum_version)
    )


def allowed_versions(bounds: TokenBounds, published: list[str]) -> list[str]:
    """The published versions that the token would get now by its range, the highest first."""
    requirement = Requirement.parse(bounds.requirement)
    minimum = Version.parse(bounds.minimum_version).simplified if bounds.minimum_version else None
    found = []
    for text in published:
        version = Version.parse(text)
        if requirement.matches(version) and (minimum is None or version.simplified >= minimum):
            found.append(text)
            if len(found) == _MAX_ALLOWED:
                break
    return found


def check_may_act_for(actor: Actor, organization: str, role: str, superuser: bool) -> None:
    """Whoever holds a token acts as its person, so nobody makes one for a person who may more."""
    above = superuser or role == Role.OWNER
    if above and not (actor.superuser or actor.roles.get(organization) is Role.OWNER):
        raise HubError(
            "forbidden",
            "Only an owner makes tokens for an owner.",
            hint="Ask that person to make the token.",
        )


def may_manage_all(actor: Actor, organization: str) -> bool:
    """Whether the actor sees and revokes everybody's tokens of the organization."""
    return Permission.ORGANIZATION_ADMIN in permissions_of(actor, organization)


def _minimum(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return str(Version.from_tag(text))
    except VersionError as error:
        raise HubError("bad-version", f"{error}") from error
