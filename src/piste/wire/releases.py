"""Messages about projects and their releases."""

import msgspec


class NewProject(msgspec.Struct, frozen=True):
    name: str
    visibility: str = "private"  # public, unlisted, private
    provisional: bool = False  # for a first release: goes again if that does not come


class ProjectChange(msgspec.Struct, frozen=True):
    visibility: str


class Project(msgspec.Struct, frozen=True):
    organization: str
    name: str
    visibility: str
    created_at: int
    description: str | None = None
    labels: list[str] = []
    latest_version: str | None = None


class Output(msgspec.Struct, frozen=True):
    """One output of a release. `available` is true when its whole closure is in the cache."""

    attribute: str
    store_path: str
    available: bool
    system: str | None = None


class Release(msgspec.Struct, frozen=True):
    """A release as it is listed: newest version first."""

    id: str
    organization: str
    project: str
    version: str
    rolling: bool
    published_at: int
    revision: str | None = None
    commit_count: int | None = None
    yanked_at: int | None = None
    yank_reason: str | None = None


class ReleaseDetails(msgspec.Struct, frozen=True):
    """A release with everything that its publisher said of it."""

    release: Release
    outputs: list[Output]
    source_url: str
    description: str | None = None
    labels: list[str] = []
    license: str | None = None
    repository: str | None = None
    subdirectory: str | None = None
    readme: str | None = None
    mirrored: bool = False  # published for somebody else


class Yank(msgspec.Struct, frozen=True):
    reason: str | None = None
    security: bool = False  # also ends the closure tokens of this release
