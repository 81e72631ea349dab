"""Messages about organizations, their members, keys and upstream caches, and about who is asking."""

import msgspec


class Status(msgspec.Struct, frozen=True):
    """Who the caller is, for `GET /api/v1/status`. `organizations` is empty for a resolve-only token."""

    logged_in: bool
    user: str | None
    kind: str | None
    organizations: list[str]
    expires_at: int | None  # microseconds since the epoch
    public_keys: dict[str, list[str]] = {}  # organization -> NAME:BASE64, those that sign now


class NewOrganization(msgspec.Struct, frozen=True):
    name: str


class Organization(msgspec.Struct, frozen=True):
    name: str
    created_at: int
    public_keys: list[str] = []


class NewMember(msgspec.Struct, frozen=True):
    """A person by name; one that the hub does not know yet becomes a local person of that name."""

    person: str
    role: str = "member"  # owner, admin, member


class Member(msgspec.Struct, frozen=True):
    person: str
    role: str
    since: int


class NewUpstream(msgspec.Struct, frozen=True):
    """A cache whose paths are pinned, not stored: its address and the keys that the organization trusts it
    with.
    """

    url: str
    public_keys: list[str]


class Upstream(msgspec.Struct, frozen=True):
    url: str
    public_keys: list[str]
    created_at: int


class NewSigningKey(msgspec.Struct, frozen=True):
    """A key that the organization's publishers hold. Only its public half is ever told to a hub."""

    public_key: str  # NAME:BASE64


class SigningKey(msgspec.Struct, frozen=True):
    public_key: str
    held_by: str  # hub, publisher; nobody once it is revoked
    created_at: int
    revoked_at: int | None = None


class RevokedKey(msgspec.Struct, frozen=True):
    """A key that signs nothing more, and how many of its signatures were taken away."""

    public_key: str
    paths: int
    statements: int
    signing: list[str]  # the keys that are left
