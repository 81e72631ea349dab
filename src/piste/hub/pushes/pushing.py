"""A push from its question to its end. It is staged like a publication, and ends in paths of the project
instead of a release.

Whoever asks what is missing is told of the project alone. Nothing of a push is readable before it is
finished, and then all of it is.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from piste.hub.access import queries as access_queries
from piste.hub.access.keys import SigningKeys
from piste.hub.access.records import Actor, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.gathered import Gathered
from piste.hub.cache.records import StoredPath
from piste.hub.cache.signing import name_of
from piste.hub.db.base import Connection, Row
from piste.hub.errors import HubError
from piste.hub.http import message_from
from piste.hub.publish import queries, rules
from piste.hub.publish.declaring import Listed, declare, readable_paths
from piste.hub.publish.gathering import join, joining
from piste.hub.publish.records import FINISHED, OPEN, PUSH, PublicationRow
from piste.hub.publish.signers import unknown_key
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.identifiers import new_id
from piste.lib.spooled import PAGE
from piste.nix.store_path import StorePath, StorePathError
from piste.wire.publication import Metadata
from piste.wire.pushes import FinishedPush, LackingPaths, OpenedPush, WantedPaths


def question_from(data: bytearray) -> WantedPaths:
    """Read a question; in a thread, since it may be large."""
    # No name has a comma, and keys are few.
    if data.count(b",") > rules.MAX_PATHS + rules.MAX_OUTPUTS:
        data.clear()  # the error remembers for a while what it was about
        raise rules.too_many_paths()
    return message_from(data, WantedPaths)


async def lacking(services: Services, project: Project, wanted: WantedPaths) -> LackingPaths:
    """What the project lacks of these paths. Changes nothing."""
    if len(wanted.paths) > rules.MAX_PATHS:
        raise rules.too_many_paths()
    _check_signers(await services.keyring.keys_of(project.organization), wanted.signing_keys)
    missing: list[str] = []
    for start in range(0, len(wanted.paths), PAGE):
        names = wanted.paths[start : start + PAGE]
        parts = await services.workers.run(_hash_parts, names)
        held = await cache_queries.paths_of_project(services.database, project.id, parts)
        missing += await services.workers.run(_not_there, names, held, wanted.signing_keys)
    if not missing:
        return LackingPaths([])
    return LackingPaths(missing, await cache_queries.upstreams(services.database, project.organization))


def _hash_parts(names: Sequence[str]) -> list[str]:
    try:
        return [StorePath.from_base_name(name).hash_part for name in names]
    except StorePathError as error:
        raise HubError("bad-path-info", f"{error}.") from error


def _not_there(names: Sequence[str], held: Sequence[StoredPath], signers: list[str]) -> list[str]:
    there = {path.base_name for path in held if _is_signed(path, signers)}
    return [name for name in names if name not in there]


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


async def open_push(services: Services, project: Project, actor: Actor, declaration: Listed) -> OpenedPush:
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


def check_no_outputs(declaration: Listed) -> None:
    if declaration.outputs:
        raise HubError("bad-request", "A push has no outputs.", hint="Outputs belong to a release.")


async def finish(services: Services, project: Project, actor: Actor, push: PublicationRow) -> FinishedPush:
    """The paths become the project's, all or none."""
    if push.state == FINISHED:
        return FinishedPush(0)  # the answer to the first time was lost
    keys = await services.keyring.keys_of(project.organization)
    with ExitStack() as files:
        paths = await _joining_paths(services, project, actor, push, files)
        coming = await joining(services, project, paths, keys, files)
        async with services.database.transaction() as connection:
            if not await queries.close(connection, push.id):
                raise HubError("publication-closed", "This push was finished or abandoned meanwhile.")
            await _check_keys(connection, project.organization, keys)
            await join(services, connection, project, coming, services.clock())
            note(f"push {push.id}, {len(coming.new)} paths")
        return FinishedPush(len(coming.new))


async def _joining_paths(
    services: Services, project: Project, actor: Actor, push: PublicationRow, files: ExitStack
) -> Gathered:
    """What is staged, and what the organization has of the rest. What the project has already is left as it
    is, with all that it refers to.
    """
    run = services.workers.run
    paths = files.enter_context(Gathered(services.objects.spool))
    lacking: set[str] = set()
    async for rows in queries.staged_rows(services.database, push.id):
        lacking.update(await run(_put_ready, paths, rows))
    wanted = set(await run(paths.lacking)) | lacking
    while wanted:
        lacking |= wanted
        names = sorted(wanted)
        for start in range(0, len(names), PAGE):
            some = names[start : start + PAGE]
            held = await readable_paths(services, project, actor, [name[:32] for name in some])
            found = [path for path in held.values() if path.base_name in wanted]
            lacking.difference_update(path.base_name for path in found)
            await run(paths.put, [path for path in found if path.project != project.id])
        wanted = set(await run(paths.lacking))
    if lacking:
        shown = sorted(lacking)[: rules.SHOWN_MISSING]
        raise HubError(
            "push-incomplete",
            f"{len(lacking)} of the paths are not there, or what they refer to is not.",
            hint="Upload them, then finish again; nobody declared them, or their NARs did not arrive.",
            context={"missing": " ".join(shown)},
        )
    return paths


def _put_ready(paths: Gathered, rows: Sequence[Row]) -> list[str]:
    """The names of the others."""
    staged = queries.staged_paths(rows)
    paths.put([path for path in staged if path.state in rules.READY])
    return [path.base_name for path in staged if path.state not in rules.READY]


async def _check_keys(connection: Connection, organization: str, keys: SigningKeys) -> None:
    """Refuse to sign with a key that was retired meanwhile."""
    rows = await access_queries.signing_keys(connection, organization)
    now = {row["name"] for row in rows if row["retired_at"] is None}
    if gone := [key.name for key in keys.secret if key.name not in now]:
        raise unknown_key(", ".join(gone))
