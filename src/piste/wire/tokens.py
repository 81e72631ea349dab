"""Messages about tokens. The token itself is in one answer only: the one to its creation."""

import msgspec


class NewToken(msgspec.Struct, frozen=True):
    """`kind` is `user`, `device` or `resolve-only`; the binding fields belong to `resolve-only` alone."""

    kind: str
    description: str
    expires_in: int | None = None  # seconds; None takes the hub's default for the kind
    person: str | None = None  # user tokens: for whom; None is the caller
    project: str | None = None
    requirement: str | None = None
    attribute: str | None = None
    minimum_version: str | None = None


class NewTokens(msgspec.Struct, frozen=True):
    """Resolve-only tokens of one organization that are made together, all or none. A dry run makes none: the
    answer then has neither ids nor tokens, but tells which versions each would allow."""

    tokens: list[NewToken]
    dry_run: bool = False


class RotateToken(msgspec.Struct, frozen=True):
    """A new token in place of one that goes on for `overlap` seconds, so that its holder can be given the new
    one. 0 ends the old one at once."""

    overlap: int = 86400
    expires_in: int | None = None  # seconds; None is as long as the old one was made for


class Token(msgspec.Struct, frozen=True):
    id: str
    kind: str
    organization: str
    description: str
    project: str | None
    requirement: str | None
    attribute: str | None
    minimum_version: str | None
    person: str | None
    created_by: str | None
    created_at: int
    expires_at: int | None
    last_used_at: int | None = None
    revoked_at: int | None = None
    last_used_address: str | None = None
    last_used_host: str | None = None  # as the client calls itself
    replaced_by: str | None = None  # id


class CreatedToken(msgspec.Struct, frozen=True):
    """The answer to a creation; `token` is shown here and never again."""

    id: str
    token: str
    kind: str
    organization: str
    project: str | None
    requirement: str | None
    attribute: str | None
    description: str
    expires_at: int | None
    minimum_version: str | None = None
    allowed_versions: list[str] = []  # published versions that the requirement allows now
