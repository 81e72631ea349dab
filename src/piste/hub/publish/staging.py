"""A publication that is staged all at once, as clients of other dialects do it: what it is, its outputs, what
file its source will be; the answer names an address to put that file to.

The project is made where there is none yet. All of it is one transaction. Only the SHA-256 of the address is
kept, and it must never be put into a log or an error.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from piste.hub import trail
from piste.hub.access.queries import project_by_name, projects_by_id
from piste.hub.access.records import Actor, Kind, Organization, Permission, Project
from piste.hub.db.base import ConflictError, Connection
from piste.hub.errors import HubError, not_found
from piste.hub.publish import opening, queries
from piste.hub.publish.records import Announced, PublicationRow, StagedOutput, UploadAddress
from piste.hub.publish.rules import SOURCE_LIMIT, check_version_is_new
from piste.hub.publish.signers import signers_of
from piste.hub.publish.uploading import upload_address_invalid
from piste.hub.registry import queries as registry_queries
from piste.hub.registry.rules import check_name, check_visibility
from piste.hub.services import Services
from piste.lib.clock import MINUTE
from piste.lib.identifiers import new_id
from piste.semver.version import Version
from piste.wire.publication import Finish, OpenPublication

ADDRESS_LIFETIME: Final = 15 * MINUTE  # until an upload begins; it may then take as long as it moves
PRIVATE: Final = "private"


@dataclass(frozen=True)
class Staging:
    """What a client says in one request. `document` is all of it, to the letter."""

    opening: OpenPublication
    outputs: Sequence[StagedOutput]
    source: Announced
    document: str


@dataclass(frozen=True)
class Staged:
    publication: str  # id
    address: str  # a secret


class _Stager(msgspec.Struct, frozen=True):
    """Whose credential staged a release, as the audit log names it."""

    kind: Kind
    token: str | None
    person: str | None
    name: str | None


async def stage(
    services: Services, actor: Actor, place: Project | Organization, name: str, staging: Staging
) -> Staged:
    """`place` is the project, or the organization that has none of that `name` yet."""
    version = opening.check_wanted(actor, staging.opening)
    if staging.source.size > SOURCE_LIMIT:
        raise HubError("body-too-large", f"A source has at most {SOURCE_LIMIT >> 20} MiB.")
    try:
        return await _stage(services, actor, place, name, staging, version)
    except ConflictError:
        if isinstance(place, Project):
            raise
    # Somebody else has made the project at this moment.
    made = await project_by_name(services.database, place.name, name)
    if made is None:
        raise not_found()
    services.guard.require(actor, Permission.PROJECT_PUBLISH, made)
    return await _stage(services, actor, made, name, staging, version)


async def _stage(
    services: Services,
    actor: Actor,
    place: Project | Organization,
    name: str,
    staging: Staging,
    version: Version,
) -> Staged:
    now = services.clock()
    owner = place.id if isinstance(place, Organization) else place.organization
    # Told now: this client brings no signatures later either.
    signers_of(await services.keyring.keys_of(owner), Finish())
    if isinstance(place, Organization):
        check_name(name)
        check_visibility(staging.opening.visibility or PRIVATE)
        project = new_id(now)
    else:
        opening.check_visibility(place, staging.opening)
        existing = await queries.release_of_version(services.database, place.id, version.sort_key())
        check_version_is_new(place, version, staging.opening.metadata.revision, existing)
        project = place.id
    row = opening.new_row(project, staging.opening, version, now)
    secret = secrets.token_urlsafe(32)
    async with services.database.transaction() as connection:
        if isinstance(place, Organization):
            visibility = staging.opening.visibility or PRIVATE
            await registry_queries.add_project(
                connection, project, place.id, name, visibility, now, provisional=True
            )
        await _add(connection, actor, row, staging, hash_address(secret))
        trail.note(f"version {version}")
    return Staged(row.id, secret)


async def _add(
    connection: Connection, actor: Actor, row: PublicationRow, staging: Staging, hashed: bytes
) -> None:
    await opening.add(connection, actor, row)
    await opening.bind(connection, actor, row.id)
    await queries.stage_outputs(connection, row.id, staging.outputs)
    await queries.add_document(connection, row.id, staging.document)
    stager = _Stager(actor.kind, actor.token, actor.person, actor.name)
    address = UploadAddress(
        publication=row.id,
        project=row.project,
        size=staging.source.size,
        digest=staging.source.digest,
        staged_by=msgspec.json.encode(stager).decode(),
        expires_at=row.created_at + ADDRESS_LIFETIME,
        used_at=None,
    )
    await queries.add_upload_address(connection, hashed, address)


def hash_address(secret: str) -> bytes:
    """What the database knows of an upload address."""
    return hashlib.sha256(secret.encode()).digest()


async def find_by_address(services: Services, secret: str) -> tuple[Project, PublicationRow, UploadAddress]:
    """The publication that an upload to this address belongs to; HubError if it takes none. From here on the
    audit log knows whose it is.
    """
    address = await queries.upload_address(services.database, hash_address(secret))
    if address is None or address.used_at is not None or address.expires_at <= services.clock():
        raise upload_address_invalid()
    listed = msgspec.json.encode([address.project]).decode()
    project = next(iter(await projects_by_id(services.database, listed)), None)
    if project is None:
        raise upload_address_invalid()
    stager = msgspec.json.decode(address.staged_by, type=_Stager)
    actor = Actor(kind=stager.kind, token=stager.token, person=stager.person, name=stager.name)
    current = trail.current()
    if current is not None:
        current.by(actor)
        current.to(Permission.PROJECT_PUBLISH, project)
    if stager.token is not None:
        holder = await services.authenticator.holder(stager.token)
        if holder is None or not services.guard.may(holder, Permission.PROJECT_PUBLISH, project):
            raise upload_address_invalid()
    row = await queries.publication(services.database, project.id, address.publication)
    if row is None:
        raise upload_address_invalid()
    return project, row, address
