"""What may be an organization, a member, an upstream. Pure decisions; HubError says what is wrong."""

import re
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import urlsplit

from piste.hub.access.records import Role
from piste.hub.errors import HubError
from piste.nix.flake_ref import valid_name
from piste.nix.signature import PublicKey, SignatureKeyError

# `/f/pinned/…` is an address of releases; `admin` is the person of the hub's own first tokens.
_RESERVED: Final = frozenset({"pinned", "admin"})
MAX_UPSTREAMS: Final = 16
_MAX_URL: Final = 1024
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(name: str) -> str:
    """The name of an organization or a person, if it can be one."""
    if not valid_name(name) or name.lower() in _RESERVED:
        raise HubError(
            "bad-name",
            f"{name[:80]!r} can't be a name here.",
            hint="Up to 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit.",
        )
    return name


def parse_role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise HubError(
            "bad-request", f"{text[:80]!r} is not a role.", hint="owner, admin or member."
        ) from error


def check_role_change(roles: Mapping[str, str], *, by_owner: bool, person: str, role: Role | None) -> None:
    """Only owners make and unmake owners, and one owner stays. `role` None removes; `roles` is as it was
    before."""
    was_owner = roles.get(person) == Role.OWNER
    if (was_owner or role is Role.OWNER) and not by_owner:
        raise HubError(
            "forbidden", "Only an owner changes who is an owner.", hint="Ask an owner of the organization."
        )
    owners = [one for one, held in roles.items() if held == Role.OWNER]
    if was_owner and role is not Role.OWNER and owners == [person]:
        raise HubError(
            "bad-request",
            "This is the last owner of the organization.",
            hint="Make somebody else an owner first.",
        )


def check_upstream_url(url: str) -> str:
    """The address of a cache, without a slash at its end."""
    parts = urlsplit(url)
    sound = (
        parts.scheme in ("http", "https") and parts.hostname and len(url) <= _MAX_URL and url.isprintable()
    )
    if not sound or parts.query or parts.fragment or "@" in parts.netloc or " " in url:
        raise HubError(
            "bad-request",
            "This is not the address of a cache.",
            hint="It begins with https:// and has no user name, query or fragment.",
        )
    return url.rstrip("/")


def check_public_keys(texts: list[str]) -> list[str]:
    """Keys in the form NAME:BASE64, at least one."""
    if not 0 < len(texts) <= MAX_UPSTREAMS:
        raise HubError("bad-request", "An upstream needs at least one public key.", hint="NAME:BASE64.")
    try:
        return [str(PublicKey.parse(text)) for text in texts]
    except SignatureKeyError as error:
        raise HubError("bad-request", f"A public key can't be read: {error}.", hint="NAME:BASE64.") from error


def check_signing_key(text: str) -> PublicKey:
    """The public half of a key that publishers hold. The text is never quoted: it may be a secret by
    mistake."""
    try:
        key = PublicKey.parse(text)
    except SignatureKeyError as error:
        raise HubError(
            "bad-request", f"The key can't be used: {error}.", hint="Give its public half, NAME:BASE64."
        ) from error
    if not _KEY_NAME.fullmatch(key.name):
        raise HubError(
            "bad-name",
            "A key's name has up to 128 letters, digits, `.`, `_` and `-`, beginning with a letter or digit.",
        )
    return key


def check_fate(text: str | None) -> Literal["keep", "drop"] | None:
    """What becomes of the signatures of a key that is revoked."""
    match text:
        case None:
            return None
        case "keep":
            return "keep"
        case "drop":
            return "drop"
    raise HubError("bad-request", "What becomes of the signatures is `keep` or `drop`.")
