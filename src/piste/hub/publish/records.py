"""What a publication remembers while it is open. The states are described in the migration of its tables."""

import msgspec

from piste.hub.cache.records import PathRecord
from piste.wire.publication import Metadata

RELEASE = "release"
PUSH = "push"

OPEN = "open"
FINISHED = "finished"

MISSING = "missing"
VERIFIED = "verified"
PRESENT = "present"
PINNED = "pinned"


class PublicationRow(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    project: str
    stage: str | None
    version: str
    rolling: bool
    metadata: str
    state: str
    source: str | None  # hex SHA-256 of the tar
    source_size: int | None
    readme: str | None
    source_license: str | None
    created_at: int
    expires_at: int
    sequence: int | None = None  # reserved, while its publisher signs
    kind: str = RELEASE  # what it ends in

    @property
    def said(self) -> Metadata:
        return msgspec.json.decode(self.metadata, type=Metadata)


class Announced(msgspec.Struct, frozen=True):
    """The file that the source of a publication will come as."""

    size: int
    digest: str  # hex SHA-256 of the .tar.gz


class UploadAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where one source may be put, once. The address itself is a secret, kept as its SHA-256 only."""

    publication: str
    project: str
    size: int
    digest: str
    staged_by: str  # JSON, for the audit log
    expires_at: int
    used_at: int | None

    @property
    def announced(self) -> Announced:
        return Announced(self.size, self.digest)


class StagedPath(PathRecord, frozen=True, kw_only=True):
    state: str


class StagedOutput(msgspec.Struct, frozen=True):
    attribute: str
    store_path: str
    system: str | None
    required: bool


class ReleaseContent(msgspec.Struct, frozen=True):
    """What makes two publications of one version the same."""

    outputs: dict[str, str]
    revision: str | None
    source: str
