"""The records that a decision is made of: who asks (Actor), what for (Permission), on what (Organization,
Project)."""

from enum import StrEnum

import msgspec


class Permission(StrEnum):
    """What can be asked for. The table of who may is in access/rules.py."""

    PUBLIC = "public"  # health, the root's nix-cache-info
    HUB_AUDIT = "hub:audit"  # what belongs to no organization
    STATUS = "status"  # what the credential itself is
    LIST = "list"  # listings, filtered by what the caller may see
    IDENTITY_EXCHANGE = "identity:exchange"  # the identity of a CI is the credential; its handler verifies it
    UPLOAD_FINISH = "upload:finish"  # of an upload that the caller opened; its handler finds the project
    UPLOAD_SOURCE = "upload:source"  # the address is the credential; its handler verifies it
    ORGANIZATION_CREATE = "organization:create"
    ORGANIZATION_READ = "organization:read"
    ORGANIZATION_ADMIN = "organization:admin"  # members, tokens, keys, upstreams
    CREDENTIAL_MANAGE = "credential:manage"  # an admin all of the organization's, a member the own ones
    PROJECT_CREATE = "project:create"
    PROJECT_READ = "project:read"  # metadata, versions, outputs
    PROJECT_SOURCE = "project:source"  # the tarball
    PROJECT_PUBLISH = "project:publish"
    PROJECT_ADMIN = "project:admin"  # visibility, yank, deletion
    OUTPUT_RESOLVE = "output:resolve"
    CACHE_READ = "cache:read"  # narinfo, NAR, listing, manifest
    CACHE_WRITE = "cache:write"
    CACHE_LOG = "cache:log"  # build logs, build traces, debug information; they can quote source


class Kind(StrEnum):
    NOBODY = "nobody"
    USER = "user"
    DEVICE = "device"
    RESOLVE_ONLY = "resolve-only"
    CLOSURE = "closure"
    SESSION = "session"
    IDENTITY = "identity"


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


class Binding(msgspec.Struct, frozen=True):
    """What a resolve-only token is bound to."""

    project: str  # id
    requirement: str
    attribute: str
    minimum_version: str | None


class Closure(msgspec.Struct, frozen=True):
    """What a closure token reads: one manifest of one project."""

    project: str  # id
    manifest: str
    parent: str  # id of the token that it was made for; empty for nobody
    key_id: int = 0  # under which it was made


class Session(msgspec.Struct, frozen=True):
    """What a session may publish. Without `project` it may make the project of that name first."""

    project: str | None  # id
    project_name: str
    version: str
    rolling: bool
    stage: str | None
    issuer: str = ""  # of the identity that was exchanged for it


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """What the identity of a CI is trusted with, as foreign clients send it: the projects that rules map it
    to, those that do not exist yet included, and nothing else."""

    issuer: str
    use: str  # by which this very identity is known again
    projects: frozenset[str] = frozenset()  # ids
    pending: frozenset[tuple[str, str]] = frozenset()  # organization (id) and name in lower case
    organizations: frozenset[str] = frozenset()  # ids: of all of these
    rules: tuple[str, ...] = ()  # ids
    late: bool = False  # it has expired a moment ago, and may finish what it opened before


class Actor(msgspec.Struct, frozen=True):
    """Who asks. `organization` confines a token to one organization (None: wherever its person may)."""

    kind: Kind = Kind.NOBODY
    token: str | None = None  # id
    person: str | None = None  # id
    name: str | None = None
    superuser: bool = False
    organization: str | None = None  # id
    roles: dict[str, Role] = {}  # organization id -> role
    binding: Binding | None = None
    closure: Closure | None = None
    session: Session | None = None
    trusted: Trusted | None = None
    expires_at: int | None = None


class Reach(msgspec.Struct, frozen=True):
    """Which projects an actor's look-ups over the whole hub touch: the public ones, and these."""

    everything: bool = False
    organizations: list[str] = []  # ids
    projects: list[str] = []  # ids


class Organization(msgspec.Struct, frozen=True):
    id: str
    name: str
    created_at: int


class Project(msgspec.Struct, frozen=True):
    id: str
    organization: str  # id
    organization_name: str
    name: str
    visibility: str
    created_at: int


Resource = Organization | Project | None
