"""A release with everything that is known of it."""

from piste.hub.access.records import Project
from piste.hub.registry import queries, rules
from piste.hub.registry.availability import all_outputs
from piste.hub.registry.records import ReleaseRow, ReleaseSaid
from piste.hub.services import Services
from piste.wire import releases as wire


async def release_details(services: Services, project: Project, row: ReleaseRow) -> wire.ReleaseDetails:
    """Also which of its outputs are available by now."""
    said = await queries.release_said(services.database, row.id) or ReleaseSaid()
    outputs = [
        wire.Output(each.attribute, each.store_path, each.manifest is not None, each.system)
        for each in await all_outputs(services, project, row)
    ]
    return wire.ReleaseDetails(
        release=as_release(project, row),
        outputs=outputs,
        source_url=rules.pinned_url(services.settings.public_url, project, row),
        description=said.description,
        labels=queries.labels_of(said.labels),
        license=said.license,
        repository=said.repository,
        subdirectory=said.subdirectory,
        readme=said.readme,
        mirrored=said.mirrored,
    )


def as_release(project: Project, row: ReleaseRow) -> wire.Release:
    return wire.Release(
        id=row.id,
        organization=project.organization_name,
        project=project.name,
        version=row.version,
        rolling=row.rolling,
        published_at=row.published_at,
        revision=row.revision,
        commit_count=row.commit_count,
        yanked_at=row.yanked_at,
        yank_reason=row.yank_reason,
    )
