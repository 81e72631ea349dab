"""What `fh` is answered with: the rows and objects that it decodes, made of Piste's own messages. Pure.

Versions are complete where `fh` parses them, dates have an offset, counts are integers, and an address is
absolute. Unknown fields are ignored there, so each shape has all that FlakeHub's own had.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from piste.hub.flakehub.output_shapes import output_groups
from piste.lib.clock import SECOND
from piste.wire.organizations import Status
from piste.wire.releases import Project, Release, ReleaseDetails
from piste.wire.resolution import Resolution

# Where a credential has no end, since a number must be there: the last second of the year 9999.
NEVER: Final = 253_402_300_799
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
PAGE: Final = 50  # rows of a page of releases, for those who ask for pages


class CliStatus(msgspec.Struct, frozen=True):
    gh_name: str
    expires_at: int  # seconds since the epoch


class FlakeRow(msgspec.Struct, frozen=True):
    org: str
    project: str
    description: str | None
    labels: list[str]


class ProjectRow(msgspec.Struct, frozen=True):
    """Of one owner: the names of the fields differ from those of a flake."""

    organization_name: str
    name: str
    description: str | None
    labels: list[str]
    visibility: str


class OrganizationRow(msgspec.Struct, frozen=True):
    name: str


class VersionRow(msgspec.Struct, frozen=True):
    version: str
    simplified_version: str


class ReleaseRow(msgspec.Struct, frozen=True):
    """`index` is the place in the list of `total`, from 1."""

    simplified_version: str
    version: str
    revision: str
    published_at: str
    updated_at: str | None
    commit_count: int | None
    yanked_at: str | None
    visibility: str
    index: int
    total: int


class ReleaseObject(msgspec.Struct, frozen=True):
    """One release, for `add`, `convert` and `eject`, and for whoever reads FlakeHub's API beside `fh`."""

    org: str
    project: str
    version: str
    simplified_version: str
    revision: str
    commit_count: int | None
    description: str | None
    visibility: str
    labels: list[str]
    readme: str | None
    spdx_identifier: str | None
    repo_url: str | None
    source_github_owner_repo_pair: str
    source_subdirectory: str | None
    published_at: str
    created_at: str
    updated_at: str | None
    yanked_at: str | None
    mirrored: bool
    index: int
    total: int
    download_url: str
    pretty_download_url: str
    outputs: dict[str, Any]


class ResolvedOutput(msgspec.Struct, frozen=True):
    attribute_path: str
    store_path: str
    token: str | None


def cli_status(status: Status) -> CliStatus:
    """For what is no person's, the organization stands in place of a user."""
    expires = NEVER if status.expires_at is None else status.expires_at // SECOND
    return CliStatus(status.user or "", expires)


def flake_row(project: Project) -> FlakeRow:
    return FlakeRow(project.organization, project.name, project.description, project.labels)


def project_row(project: Project) -> ProjectRow:
    return ProjectRow(
        project.organization, project.name, project.description, project.labels, project.visibility
    )


def version_row(version: str) -> VersionRow:
    return VersionRow(version, simplified(version))


def release_rows(releases: Sequence[Release], visibility: str, before: int, total: int) -> list[ReleaseRow]:
    """`releases`: those of the project from a place on, `before` it there are so many."""
    return [
        ReleaseRow(
            simplified_version=simplified(release.version),
            version=release.version,
            revision=release.revision or "",
            published_at=date(release.published_at),
            updated_at=_date(release.yanked_at),
            commit_count=release.commit_count,
            yanked_at=_date(release.yanked_at),
            visibility=visibility,
            index=index,
            total=total,
        )
        for index, release in enumerate(releases, before + 1)
    ]


def release_object(
    details: ReleaseDetails, visibility: str, public_url: str, place: tuple[int, int], document: str | None
) -> ReleaseObject:
    """`place`: the release's number among those of its project, and how many these are. `document`: what a
    client of this dialect published it with."""
    release = details.release
    short = simplified(release.version)
    owner, name = quote(release.organization, safe=""), quote(release.project, safe="")
    return ReleaseObject(
        org=release.organization,
        project=release.project,
        version=release.version,
        simplified_version=short,
        revision=release.revision or "",
        commit_count=release.commit_count,
        description=details.description,
        visibility=visibility,
        labels=details.labels,
        readme=details.readme,
        spdx_identifier=details.license,
        repo_url=details.repository,
        source_github_owner_repo_pair=repository_pair(
            details.repository, f"{release.organization}/{release.project}"
        ),
        # Nothing else than null: `fh eject` makes `?dir=` of an empty text.
        source_subdirectory=details.subdirectory or None,
        published_at=date(release.published_at),
        created_at=date(release.published_at),
        updated_at=_date(release.yanked_at),
        yanked_at=_date(release.yanked_at),
        mirrored=details.mirrored,
        index=place[0],
        total=place[1],
        download_url=details.source_url,
        pretty_download_url=f"{public_url}/f/{owner}/{name}/{short}.tar.gz",
        outputs=output_groups(details.outputs, document),
    )


def resolved_output(found: Resolution) -> ResolvedOutput:
    return ResolvedOutput(found.attribute_path, found.store_path, found.token)


def simplified(version: str) -> str:
    """Without build metadata, which begin at the first plus."""
    return version.partition("+")[0]


def date(microseconds: int) -> str:
    """RFC 3339, with an offset."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat().replace("+00:00", "Z")


def repository_pair(repository: str | None, otherwise: str) -> str:
    """`owner/name` of a repository's address, where it has exactly these two."""
    parts = urlsplit(repository or "").path.strip("/").removesuffix(".git").split("/")
    return "/".join(parts) if len(parts) == 2 and all(parts) else otherwise


def _date(microseconds: int | None) -> str | None:
    return None if microseconds is None else date(microseconds)
