"""What is remembered of a release and its outputs."""

import msgspec


class ReleaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a release that listings and resolutions need."""

    id: str
    version: str
    sort: bytes
    sequence: int
    rolling: bool
    source: str  # hex SHA-256 of the tar
    source_size: int
    revision: str | None = None
    commit_count: int | None = None
    published_at: int
    yanked_at: int | None = None
    yank_reason: str | None = None


class OutputRow(msgspec.Struct, frozen=True, kw_only=True):
    attribute: str
    store_path: str
    system: str | None = None
    manifest: str | None = None  # sha256:<hex>; None while it is recorded but not available
    statement: str | None = None
    statement_signatures: str | None = None  # JSON array


class ReleaseSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What its publisher said of a release, for the page that shows one."""

    description: str | None = None
    labels: str = "[]"
    license: str | None = None
    repository: str | None = None
    subdirectory: str | None = None
    readme: str | None = None
    mirrored: bool = False


def source_key(digest: str) -> str:
    """Where the tarball is; one object for the same archive, however it was packed."""
    return f"source/{digest}.tar.gz"
