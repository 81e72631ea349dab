"""Deleting releases. A version that is gone is not given out again: who has it noted must never get anything
else under its name.
"""

from piste.hub.access.records import Project
from piste.hub.db.base import Connection
from piste.hub.errors import HubError
from piste.hub.registry import queries
from piste.hub.registry.records import ReleaseRow
from piste.hub.services import Services
from piste.hub.trail import note
from piste.semver.version import Version


async def delete_release(services: Services, project: Project, row: ReleaseRow) -> None:
    """The release with its source, outputs and statements; its paths stay in the project's cache, and what
    hosts may read of it at this moment ends."""
    async with services.database.transaction() as connection:
        for output in await queries.outputs(connection, row.id):
            if output.manifest is not None:
                await services.revocations.add_manifest(connection, project.id, output.manifest)
        await queries.delete_release(connection, project.id, row.id, services.clock())
        note(f"version {row.version} release {row.id}")


async def check_not_deleted(connection: Connection, project: str, version: Version) -> None:
    """HubError where the project (id) had this version and deleted it."""
    gone = await queries.deleted_versions(connection, project)
    if any(Version.parse(each).sort_key() == version.sort_key() for each in gone):
        raise HubError(
            "version-deleted",
            f"Version {version} was deleted, and is not given out again.",
            hint="Publish under the next version.",
        )
