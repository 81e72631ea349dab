"""Opening a publication, joining one by its stage, and letting go of what was not finished."""

from typing import Final

import msgspec

from piste.hub.access.queries import projects_by_id
from piste.hub.access.records import Actor, Permission, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.db.base import ConflictError, Connection
from piste.hub.errors import HubError, not_found
from piste.hub.publish import queries, rules
from piste.hub.publish.records import FINISHED, OPEN, PUSH, RELEASE, PublicationRow
from piste.hub.registry.deleting import check_not_deleted
from piste.hub.registry.queries import provisional_projects, remove_provisional
from piste.hub.services import Services
from piste.hub.trail import current, note
from piste.lib.clock import DAY
from piste.lib.identifiers import new_id
from piste.semver.version import Version
from piste.wire.publication import OpenPublication, Publication

_WORDS: Final = {RELEASE: "publication", PUSH: "push"}


async def open_publication(
    services: Services, project: Project, actor: Actor, wanted: OpenPublication
) -> tuple[Publication, bool]:
    """The publication, and whether it is a new one."""
    version = check_wanted(actor, wanted)
    check_visibility(project, wanted)
    try:
        row, created = await _open_or_join(services, project, actor, wanted, version)
    except ConflictError:
        # Another machine opened the same stage at this moment: now there is one to join.
        row, created = await _open_or_join(services, project, actor, wanted, version)
    return await describe(services, project, row), created


def check_wanted(actor: Actor, wanted: OpenPublication) -> Version:
    """What can be said of a publication before its project is looked at."""
    version = rules.version_to_publish(wanted.version, rolling=wanted.rolling)
    rules.check_stage_name(wanted.stage)
    rules.check_metadata(wanted.metadata)
    rules.check_session(actor, version, wanted)
    return version


def check_visibility(project: Project, wanted: OpenPublication) -> None:
    if wanted.visibility is not None and wanted.visibility != project.visibility:
        raise HubError(
            "visibility-differs",
            f"The project {project.name} is {project.visibility}, not {wanted.visibility}.",
            hint="Visibility belongs to the project: an admin changes it with `piste project visibility`.",
        )


def new_row(project: str, wanted: OpenPublication, version: Version, now: int) -> PublicationRow:
    """An open publication of a project (id)."""
    return PublicationRow(
        id=new_id(now),
        project=project,
        stage=wanted.stage,
        version=str(version),
        rolling=wanted.rolling,
        metadata=msgspec.json.encode(wanted.metadata).decode(),
        state=OPEN,
        source=None,
        source_size=None,
        readme=None,
        source_license=None,
        created_at=now,
        expires_at=now + rules.LIFETIME,
    )


async def add(connection: Connection, actor: Actor, row: PublicationRow) -> None:
    """A new publication of a project that is there, and stays as long as this is open."""
    if not await queries.hold_project(connection, row.project):
        raise not_found()
    await check_not_deleted(connection, row.project, Version.parse(row.version))
    await queries.add_publication(connection, row, actor.person)


async def bind(connection: Connection, actor: Actor, publication_id: str) -> None:
    """Who may fill this publication alone."""
    if actor.session is not None and actor.token is not None:
        await queries.bind_to_session(connection, actor.token, publication_id)
    if actor.trusted is not None:
        await queries.bind_to_identity(connection, actor.trusted.use, publication_id)


async def _open_or_join(
    services: Services, project: Project, actor: Actor, wanted: OpenPublication, version: Version
) -> tuple[PublicationRow, bool]:
    row = new_row(project.id, wanted, version, services.clock())
    async with services.database.transaction() as connection:
        note(f"version {version}")
        other = await _joined(connection, row) if wanted.stage is not None else None
        if other is None:
            await add(connection, actor, row)
        await bind(connection, actor, (other or row).id)
    return other or row, other is None


async def _joined(connection: Connection, row: PublicationRow) -> PublicationRow | None:
    """The open publication of the same stage; None when a new one is to be made."""
    other = await queries.publication_of_stage(connection, row.project, row.stage or "")
    if other is None:
        return None
    if other.expires_at <= row.created_at:
        await queries.delete_publication(connection, other.id)
        return None
    if other.state == FINISHED:
        # A workflow that is run again under the same name: it stages anew, and finishing compares.
        await queries.release_stage_name(connection, other.id)
        return None
    if (other.version, other.rolling, other.metadata) != (row.version, row.rolling, row.metadata):
        raise HubError(
            "content-differs",
            f"The stage {row.stage} is open for version {other.version} with other metadata.",
            hint="Machines that fill one release publish the same commit; else give the stage another name.",
        )
    return other


async def describe(services: Services, project: Project, row: PublicationRow) -> Publication:
    """A publication as its publishers see it."""
    upstreams = await cache_queries.upstreams(services.database, project.organization)
    sort = Version.parse(row.version).sort_key()
    published = await queries.release_of_version(services.database, project.id, sort)
    keys = await services.keyring.keys_of(project.organization)
    return Publication(
        id=row.id,
        organization=project.organization_name,
        project=project.name,
        version=row.version,
        stage=row.stage,
        expires_at=row.expires_at,
        upstreams=sorted(upstreams),
        upstream_keys=dict(upstreams),
        published=published is not None,
        publisher_keys=[str(key) for key in keys.publishers],
        hub_signs=bool(keys.secret),
    )


async def find(
    services: Services, project: Project, actor: Actor, publication_id: str, *, kind: str = RELEASE
) -> PublicationRow:
    """A publication of this project that has not expired, and that the actor may fill."""
    row = await queries.publication(services.database, project.id, publication_id)
    if row is None or row.kind != kind:
        raise not_found()
    # Whoever may write to the cache goes on with a push, whose identities change while it lasts.
    if kind == RELEASE and not await _is_bound_to(services, actor, row):
        raise not_found()
    if row.expires_at <= services.clock():
        raise HubError(
            "publication-closed",
            f"This {_WORDS[kind]} has expired; nothing of it was kept.",
            hint="Begin it again.",
        )
    return row


async def _is_bound_to(services: Services, actor: Actor, row: PublicationRow) -> bool:
    """What a session or an identity fills is what it opened or joined."""
    if actor.session is not None and not await queries.is_of_session(
        services.database, actor.token or "", row.id
    ):
        return False
    return actor.trusted is None or await queries.is_of_identity(services.database, actor.trusted.use, row.id)


async def find_to_finish(
    services: Services, actor: Actor, publication_id: str
) -> tuple[Project, PublicationRow]:
    """A publication by its id alone, as foreign clients name it, and its project. Who may not finish it gets
    the answer that a missing one gives."""
    owner = await queries.project_of(services.database, publication_id)
    listed = msgspec.json.encode([owner] if owner is not None else []).decode()
    project = next(iter(await projects_by_id(services.database, listed)), None)
    if (here := current()) is not None and project is not None:
        here.to(Permission.UPLOAD_FINISH, project)
    if project is None or not services.guard.may(actor, Permission.UPLOAD_FINISH, project):
        raise not_found("it is an upload of somebody else" if project is not None else None)
    return project, await find(services, project, actor, publication_id)


async def find_open(
    services: Services, project: Project, actor: Actor, publication_id: str, *, kind: str = RELEASE
) -> PublicationRow:
    """One that still takes something."""
    row = await find(services, project, actor, publication_id, kind=kind)
    if row.state != OPEN:
        done = f": version {row.version} is published" if kind == RELEASE else ""
        raise HubError("publication-closed", f"This {_WORDS[kind]} is finished{done}.", hint="Begin another.")
    return row


async def abandon(
    services: Services, project: Project, actor: Actor, publication_id: str, *, kind: str = RELEASE
) -> None:
    """Forget what was staged. NARs that nothing else needs go with the next collection."""
    await find(services, project, actor, publication_id, kind=kind)
    await _forget(services, project.id, publication_id)


async def _forget(services: Services, project: str, publication_id: str) -> None:
    """And the project (id), if it was made for a first release that now does not come."""
    async with services.database.transaction() as connection:
        await queries.delete_publication(connection, publication_id)
        await remove_provisional(connection, project)


async def expire(services: Services) -> None:
    """Forget publications whose time is over, projects that were made for one that never came, and NARs that
    a stock client put and never described. Runs periodically.
    """
    now = services.clock()
    for publication_id, project in await queries.expired_publications(services.database, now):
        # One at a time: each may have many thousand rows, and others want to write meanwhile.
        await _forget(services, project, publication_id)
    for project in await provisional_projects(services.database, now - rules.LIFETIME):
        async with services.database.transaction() as connection:
            await remove_provisional(connection, project)
    async with services.database.transaction() as connection:
        await cache_queries.forget_pushed_nars(connection, now - DAY)
