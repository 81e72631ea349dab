"""Projects that a request names in the words of another dialect, where the router can't see them.

A route of scope NAMED is decided here, by the same guard and with the same answers as any other. Its handler
must ask here before it does anything.
"""

from dataclasses import dataclass

from piste.hub import trail
from piste.hub.access import queries
from piste.hub.access.records import Permission, Project
from piste.hub.errors import not_found
from piste.hub.routing import Exchange
from piste.hub.services import Services


@dataclass(frozen=True)
class ProjectName:
    """An organization and a project of it, both by name or both by id."""

    organization: str
    project: str
    by_id: bool = False


async def named_project(
    services: Services, exchange: Exchange, name: ProjectName | None, permission: Permission
) -> Project:
    """The project of that name, for an actor that may do this with it; else HubError. None is a name that
    nothing can have.
    """
    project = await _find(services, name) if name is not None else None
    current = trail.current()
    if current is not None:
        current.to(permission, project)
    if project is None:
        raise not_found()
    services.guard.require(exchange.actor, permission, project)
    return project


async def _find(services: Services, name: ProjectName) -> Project | None:
    look_up = queries.project_of_organization if name.by_id else queries.project_by_name
    return await look_up(services.database, name.organization, name.project)
