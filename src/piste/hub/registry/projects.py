"""Projects: make, find, list, change, delete."""

from collections.abc import Sequence

from piste.hub.access.queries import organization_by_name
from piste.hub.access.records import Actor, Organization, Project
from piste.hub.db.base import ConflictError, Row
from piste.hub.errors import HubError
from piste.hub.registry import queries, rules
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.identifiers import new_id
from piste.wire import releases as wire


async def create(services: Services, organization: Organization, wanted: wire.NewProject) -> wire.Project:
    rules.check_name(wanted.name)
    rules.check_visibility(wanted.visibility)
    now = services.clock()
    try:
        async with services.database.transaction() as connection:
            made = new_id(now)
            await queries.add_project(
                connection,
                made,
                organization.id,
                wanted.name,
                wanted.visibility,
                now,
                provisional=wanted.provisional,
            )
            note(f"project {wanted.name} {wanted.visibility}")
    except ConflictError as error:
        raise HubError(
            "already-exists", f"{organization.name} has a project {wanted.name} already."
        ) from error
    return wire.Project(organization.name, wanted.name, wanted.visibility, now)


async def show(services: Services, project: Project) -> wire.Project:
    return _shown(project, (await queries.latest_releases(services.database, [project.id])).get(project.id))


async def search(
    services: Services, actor: Actor, *, organization: str | None, text: str, label: str | None
) -> list[wire.Project]:
    """What the actor sees of the hub, by name."""
    owner = None
    if organization is not None:
        owner = await organization_by_name(services.database, organization)
        if owner is None:
            return []
    found: Sequence[Project] = await services.guard.visible_projects(actor, owner)
    latest = await queries.latest_releases(services.database, [project.id for project in found])
    shown = [(project, _shown(project, latest.get(project.id))) for project in found]
    return [
        one
        for project, one in shown
        if rules.agrees_with_search(text, project, one.description, one.labels)
        and (label is None or label.lower() in (each.lower() for each in one.labels))
    ]


async def owners(services: Services, actor: Actor, *, public: bool) -> list[str]:
    """Names of the organizations that the actor belongs to; with `public` of all whose projects it sees."""
    own = {each.name for each in await services.guard.organizations_of(actor)}
    seen = await services.guard.visible_projects(actor) if public else []
    return sorted({*own, *(project.organization_name for project in seen)}, key=str.lower)


async def change(services: Services, project: Project, wanted: wire.ProjectChange) -> wire.Project:
    """Set the visibility. What was open to all no longer is once it is private: its closure tokens end."""
    rules.check_visibility(wanted.visibility)
    async with services.database.transaction() as connection:
        await queries.set_visibility(connection, project.id, wanted.visibility)
        note(f"visibility {project.visibility} to {wanted.visibility}")
        if wanted.visibility == "private" and project.visibility != "private":
            await services.revocations.add_project(connection, project.id)
    latest = await queries.latest_releases(services.database, [project.id])
    changed = wire.Project(project.organization_name, project.name, wanted.visibility, project.created_at)
    return _with_release(changed, latest.get(project.id))


async def delete(services: Services, project: Project) -> None:
    """The project, its releases, and what it says of paths; bytes that nothing needs are collected later."""
    async with services.database.transaction() as connection:
        await services.revocations.add_project(connection, project.id)
        await queries.delete_project(connection, project.id, services.clock())


def _shown(project: Project, latest: Row | None) -> wire.Project:
    bare = wire.Project(project.organization_name, project.name, project.visibility, project.created_at)
    return _with_release(bare, latest)


def _with_release(project: wire.Project, latest: Row | None) -> wire.Project:
    if latest is None:
        return project
    return wire.Project(
        project.organization,
        project.name,
        project.visibility,
        project.created_at,
        description=latest["description"],
        labels=queries.labels_of(latest["labels"]),
        latest_version=latest["version"],
    )
