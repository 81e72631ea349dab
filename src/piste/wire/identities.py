"""Messages about identities of a CI: which a project trusts, and the session that one is exchanged for."""

import msgspec


class NewTrust(msgspec.Struct, frozen=True):
    """A rule in full (`issuer`, `claims`), or a preset with what it asks for. Each claim of a rule has to
    agree with one of its patterns; `*` in a pattern stands for one or more characters other than `:` and `/`.
    """

    project: str
    issuer: str | None = None
    audience: str | None = None  # None: the hub's own host name
    claims: dict[str, list[str]] = {}
    preset: str | None = None  # github, gitlab, forgejo
    repository: str | None = None  # presets: OWNER/NAME
    repository_id: str | None = None
    refs: list[str] = []  # presets: full names, such as refs/heads/main
    environment: str | None = None


class Trust(msgspec.Struct, frozen=True):
    id: str
    organization: str
    project: str
    pending: bool  # the project does not exist yet
    issuer: str
    audience: str
    claims: dict[str, list[str]]
    created_by: str | None
    created_at: int


class NewSession(msgspec.Struct, frozen=True):
    """What an identity wants to publish. The identity itself is the credential of the request."""

    organization: str
    project: str
    version: str
    rolling: bool = False
    stage: str | None = None


class CreatedSession(msgspec.Struct, frozen=True):
    """`token` is shown here and never again; it publishes exactly what was asked for."""

    id: str
    token: str
    organization: str
    project: str
    version: str
    rolling: bool
    stage: str | None
    expires_at: int
