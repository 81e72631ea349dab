"""A push from its question to its end. It is staged like a publication, and ends in paths of the project
instead of a release.

Whoever asks what is missing is told of the project alone. Nothing of a push is readable before it is
finished, and then all of it is.
"""

import msgspec

from piste.hub.access import queries as access_queries
from piste.hub.access.keys import SigningKeys
from piste.hub.access.records import Actor, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.records import StoredPath
from piste.hub.cache.signing import name_of
from piste.hub.db.base import Connection
from piste.hub.errors import HubError
from piste.hub.publish import queries, rules
from piste.hub.publish.declaring import as_present, declare, readable_paths
from piste.hub.publish.gathering import join, joining
from piste.hub.publish.records import FINISHED, OPEN, PUSH, PublicationRow, StagedPath
from piste.hub.publish.signers import unknown_key
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.identifiers import new_id
from piste.nix.store_path import StorePath, StorePathError
from piste.wire.publication import Declaration, Metadata
from piste.wire.pushes import FinishedPush, LackingPaths, OpenedPush, WantedPaths


async def lacking(services: Services, project: Project, wanted: WantedPaths) -> LackingPaths:
    """What the project lacks of these paths. Changes nothing."""
    if len(wanted.paths) > rules.MAX_PATHS:
        raise HubError("body-too-large", f"One question has at most {rules.MAX_PATHS} paths.")
    try:
        parts = [StorePath.from_base_name(name).hash_part for name in wanted.paths]
    except StorePathError as error:
        raise HubError("bad-path-info", f"{error}.") from error
    _check_signers(await services.keyring.keys_of(project.organization), wanted.signing_keys)
    held = await cache_queries.paths_of_project(services.database, project.id, parts)
    there = {path.base_name for path in held if _is_signed(path, wanted.signing_keys)}
    missing = [name for name in wanted.paths if name not in there]
    if not missing:
        return LackingPaths([])
    return LackingPaths(missing, await cache_queries.upstreams(services.database, project.organization))


def _check_signers(keys: SigningKeys, names: list[str]) -> None:
    known = {key.name for key in keys.publishers}
    if unknown := [name for name in names if name not in known]:
        raise unknown_key(", ".join(unknown)[:300])
    if not keys.secret and not names:
        raise HubError(
            "signing-key-missing",
            "The organization keeps its keys to itself, so the hub can't sign these paths.",
            hint="Push with --signing-key-file.",
        )


def _is_signed(path: StoredPath, names: list[str]) -> bool:
    return not names or set(names) <= {name_of(signature) for signature in path.all_signatures}


async def open_push(
    services: Services, project: Project, actor: Actor, declaration: Declaration
) -> OpenedPush:
    """Open a push with its first paths; its NARs and further paths follow."""
    check_no_outputs(declaration)
    now = services.clock()
    row = PublicationRow(
        id=new_id(now),
        project=project.id,
        stage=None,
        version="",
        rolling=False,
        metadata=msgspec.json.encode(Metadata()).decode(),
        state=OPEN,
        source=None,
        source_size=None,
        readme=None,
        source_license=None,
        created_at=now,
        expires_at=now + rules.LIFETIME,
        kind=PUSH,
    )
    async with services.database.transaction() as connection:
        note(f"push {row.id}")
        await queries.add_publication(connection, row, actor.person)
    declared = await declare(services, project, actor, row, declaration)
    return OpenedPush(row.id, row.expires_at, declared)


def check_no_outputs(declaration: Declaration) -> None:
    if declaration.outputs:
        raise HubError("bad-request", "A push has no outputs.", hint="Outputs belong to a release.")


async def finish(services: Services, project: Project, actor: Actor, push: PublicationRow) -> FinishedPush:
    """The paths become the project's, all or none."""
    if push.state == FINISHED:
        return FinishedPush(0)  # the answer to the first time was lost
    paths = await _joining_paths(services, project, actor, push)
    keys = await services.keyring.keys_of(project.organization)
    coming = await joining(services, project, paths, keys)
    async with services.database.transaction() as connection:
        if not await queries.close(connection, push.id):
            raise HubError("publication-closed", "This push was finished or abandoned meanwhile.")
        await _check_keys(connection, project.organization, keys)
        await join(connection, project, coming, services.clock())
        note(f"push {push.id}, {len(coming.new)} paths")
    return FinishedPush(len(coming.new))


async def _joining_paths(
    services: Services, project: Project, actor: Actor, push: PublicationRow
) -> dict[str, StagedPath]:
    """What is staged, and what the organization has of the rest, by base name. What the project has already
    is left as it is, with all that it refers to.
    """
    staged = await queries.staged_paths(services.database, push.id)
    paths = {path.base_name: path for path in staged if path.state in rules.READY}
    asked: set[str] = set()
    lacking = {path.base_name for path in staged} - paths.keys()
    while wanted := (lacking | _mentioned(paths)) - paths.keys() - asked:
        asked |= wanted
        held = await readable_paths(services, project, actor, sorted(name[:32] for name in wanted))
        found = {path.base_name: path for path in held.values() if path.base_name in wanted}
        lacking = (lacking | wanted) - found.keys()
        paths.update({name: as_present(path) for name, path in found.items() if path.project != project.id})
    if lacking:
        shown = sorted(lacking)[: rules.SHOWN_MISSING]
        raise HubError(
            "push-incomplete",
            f"{len(lacking)} of the paths are not there, or what they refer to is not.",
            hint="Upload them, then finish again; nobody declared them, or their NARs did not arrive.",
            context={"missing": " ".join(shown)},
        )
    return paths


def _mentioned(paths: dict[str, StagedPath]) -> set[str]:
    return {name for path in paths.values() for name in path.references}


async def _check_keys(connection: Connection, organization: str, keys: SigningKeys) -> None:
    """Refuse to sign with a key that was retired meanwhile."""
    rows = await access_queries.signing_keys(connection, organization)
    now = {row["name"] for row in rows if row["retired_at"] is None}
    if gone := [key.name for key in keys.secret if key.name not in now]:
        raise unknown_key(", ".join(gone))
