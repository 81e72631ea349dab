"""Messages of a resolution and of what a host needs to fetch a closure."""

import msgspec


class Resolution(msgspec.Struct, frozen=True):
    """One output of one release, and, when asked for, the token that reads its closure for an hour."""

    reference: str
    organization: str
    project: str
    requirement: str
    version: str
    attribute_path: str
    store_path: str
    system: str | None
    release_id: str
    manifest: str  # sha256:<hex> of the manifest's bytes
    statement: str  # text of a `piste-statement-1`, see wire.statement
    statement_signatures: list[str]
    cache_url: str  # the project's cache, absolute
    token: str | None = None
    token_expires_at: int | None = None


class NarSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the bytes of one path of a manifest come from, and who vouches for it."""

    url: str  # absolute, or relative to the project's cache
    compression: str
    signatures: list[str]
    file_size: int | None = None


class ManifestSources(msgspec.Struct, frozen=True):
    """One entry for each path of the manifest, in the manifest's order."""

    manifest: str
    sources: list[NarSource]
