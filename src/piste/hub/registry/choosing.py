"""Which release a requirement means: the highest that matches, found by one look-up in an index for each
range of versions.

A yanked release is never chosen by a range. Says nothing of who may ask.
"""

from piste.hub.access.records import Project
from piste.hub.db.base import Database
from piste.hub.errors import HubError
from piste.hub.registry import queries
from piste.hub.registry.records import ReleaseRow
from piste.semver.requirement import Requirement, RequirementError
from piste.semver.version import Version, VersionError, triple_key

# Beyond these nobody reads a list; it bounds what one request loads.
MATCHES_LIMIT = 10_000


def parse_requirement(text: str) -> Requirement:
    """A requirement as addresses and references have it; HubError says what is wrong with it."""
    try:
        return Requirement.from_url(text)
    except RequirementError as error:
        raise HubError(
            "bad-requirement",
            f"{error}.",
            hint="A requirement is `0.1`, `=0.1.175`, `~1.2`, `>=1, <3` or `*`.",
        ) from error


async def choose(
    database: Database, project: Project, requirement: Requirement, *, yanked: bool = False
) -> ReleaseRow:
    """The release that is meant. `yanked`: an exact requirement may mean a yanked one, to be shown."""
    exact = requirement.exact_version()
    if exact is not None:
        found = await queries.release_by_sort(database, project.id, exact.sort_key())
        if found is not None and found.yanked_at is not None and not yanked:
            raise _is_yanked(project, found)
    else:
        found = await highest(database, project.id, requirement)
    if found is None:
        raise HubError(
            "no-release-matches",
            f"No release of {project.organization_name}/{project.name} matches {requirement}.",
            hint="Ranges skip yanked releases, and pre-releases unless they name one.",
        )
    return found


async def highest(database: Database, project: str, requirement: Requirement) -> ReleaseRow | None:
    """The highest release that matches and is not yanked."""
    best: ReleaseRow | None = None
    for low, high in requirement.intervals():
        found = await queries.highest_release(database, project, low, high)
        best = _higher(best, found)
    for triple in requirement.prerelease_triples():
        start = triple_key(triple)
        for row in await queries.prereleases(database, project, start, start + b"\xff"):
            if requirement.matches(Version.parse(row.version)):
                best = _higher(best, row)
                break
    return best


async def matching(database: Database, project: str, requirement: Requirement) -> list[ReleaseRow]:
    """All that match, the highest first; yanked ones too."""
    found: dict[str, ReleaseRow] = {}
    for low, high in requirement.intervals():
        for row in await queries.releases(database, project, low, high, MATCHES_LIMIT):
            # A range holds no release that does not match; of ten thousand only pre-releases are parsed.
            if "-" not in row.version.partition("+")[0] or requirement.matches(Version.parse(row.version)):
                found[row.id] = row
    return sorted(found.values(), key=lambda row: row.sort, reverse=True)


async def newest_first(
    database: Database, project: str, start: int = 0, count: int = MATCHES_LIMIT
) -> tuple[list[ReleaseRow], int]:
    """Releases from a place on, the one that was published last first, yanked ones and pre-releases too; and
    how many there are of all."""
    rows = await queries.newest_releases(database, project, start, count)
    return rows, await queries.release_count(database, project)


async def exactly(database: Database, project: Project, text: str) -> ReleaseRow:
    """The release of one version, which may be written `1.2.3`, `v1.2.3` or `=1.2.3`."""
    try:
        version = Version.from_tag(text.strip().removeprefix("=").strip())
    except VersionError as error:
        raise HubError("bad-version", f"{error}.") from error
    found = await queries.release_by_sort(database, project.id, version.sort_key())
    if found is None or (version.build and Version.parse(found.version).build != version.build):
        raise HubError(
            "no-release-matches", f"{project.organization_name}/{project.name} has no release {version}."
        )
    return found


def _higher(one: ReleaseRow | None, other: ReleaseRow | None) -> ReleaseRow | None:
    if one is None or other is None:
        return one or other
    return one if one.sort >= other.sort else other


def _is_yanked(project: Project, release: ReleaseRow) -> HubError:
    reason = f": {release.yank_reason}" if release.yank_reason else ""
    return HubError(
        "release-yanked",
        f"Release {release.version} of {project.organization_name}/{project.name} was yanked{reason}.",
        hint="Take another version; a range chooses the highest that was not yanked.",
    )
