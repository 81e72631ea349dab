"""What a publication has come to: its paths, which of them are complete, and what joins the project.

Looks and computes; `join` alone writes, inside the transaction of whoever publishes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from piste.hub.access.keys import SigningKeys
from piste.hub.access.records import Actor, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.gathered import Gathered
from piste.hub.cache.queries import as_json
from piste.hub.cache.records import FurtherSigned, PathRecord, StoredPath
from piste.hub.cache.signing import new_paths, signed_further
from piste.hub.db.base import Connection, Row
from piste.hub.errors import HubError
from piste.hub.publish import queries, rules
from piste.hub.publish.declaring import readable_paths
from piste.hub.publish.records import PublicationRow, StagedOutput
from piste.hub.registry.outputs import BuiltManifest, Recorded, keep_manifest
from piste.hub.services import Services
from piste.lib.spooled import PAGE, Spooled
from piste.nix.closure import ClosureError
from piste.nix.store_path import StorePath


@dataclass(frozen=True)
class Joining:
    """Paths that are complete in themselves, on their way into a project."""

    paths: Gathered
    new: Spooled[PathRecord]  # those that the project does not have, with the signatures that are served
    signed: Spooled[FurtherSigned]  # those that it has, where a publisher's signature is added


async def staged_paths(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    files: ExitStack,
    roots: Collection[str] = (),
) -> Gathered:
    """The staged paths, completed by what the organization has of what is not staged or did not arrive, and
    of `roots` (base names). Their files are there as long as `files`.
    """
    paths = files.enter_context(Gathered(services.objects.spool))
    async for rows in queries.staged_rows(services.database, publication.id):
        await services.workers.run(_put_staged, paths, rows)
    while wanted := await services.workers.run(paths.lacking, roots):
        for start in range(0, len(wanted), PAGE):
            some = wanted[start : start + PAGE]
            held = await readable_paths(services, project, actor, [name[:32] for name in some])
            names = set(some)
            await services.workers.run(paths.put, [path for path in held.values() if path.base_name in names])
    return paths


def _put_staged(paths: Gathered, rows: Sequence[Row]) -> None:
    staged = queries.staged_paths(rows)
    paths.put([path for path in staged if path.state in rules.READY])
    paths.expect(path for path in staged if path.state not in rules.READY)


async def gathered_paths(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    outputs: Sequence[StagedOutput],
    files: ExitStack,
    roots: Collection[str] = (),
) -> Gathered:
    """What a release consists of: the paths that are there with everything that they reach. HubError where
    an output that is required is not. A circle that somebody has pushed before keeps what it is in from
    being available, and no release from being published.
    """
    paths = await staged_paths(services, project, actor, publication, files, roots)
    incomplete = await services.workers.run(paths.incomplete)
    if roots and not await services.workers.run(_in_order, paths, incomplete):
        return await gathered_paths(services, project, actor, publication, outputs, files)
    await services.workers.run(_check_required, outputs, paths, incomplete)
    paths.leave_out(incomplete)
    return paths


def _check_required(outputs: Sequence[StagedOutput], paths: Gathered, incomplete: Collection[str]) -> None:
    for output in outputs:
        root = base_name(output)
        if output.required and (root in incomplete or root not in paths):
            raise rules.output_incomplete(output.attribute, rules.missing_chains(root, paths))


def _in_order(paths: Gathered, incomplete: Collection[str]) -> bool:
    try:
        paths.check_order(without=incomplete)
    except ClosureError:
        return False
    return True


def _check_no_circle(paths: Gathered) -> None:
    """Also what no output reaches becomes the project's: a circle in it would never be found again."""
    try:
        paths.check_order()
    except ClosureError as error:
        raise _circle(error) from error


async def manifest_of(services: Services, root: str, paths: Gathered) -> BuiltManifest:
    """The manifest of a complete closure, kept."""
    try:
        return await keep_manifest(services, root, paths)
    except ClosureError as error:
        raise _circle(error) from error


def _circle(error: ClosureError) -> HubError:
    return HubError("bad-path-info", f"The closure can't be put in order: {error}.")


async def joining(
    services: Services, project: Project, paths: Gathered, keys: SigningKeys, files: ExitStack
) -> Joining:
    """The paths with all their signatures, held against what the project says of them already."""
    await services.workers.run(_check_no_circle, paths)
    spool = services.objects.spool
    coming = Joining(
        paths,
        files.enter_context(Spooled(spool, PathRecord)),
        files.enter_context(Spooled(spool, FurtherSigned)),
    )
    differing: list[str] = []
    async for some in services.workers.each(paths.pages()):
        own = await cache_queries.paths_of_project(
            services.database, project.id, [path.hash_part for path in some]
        )
        differing += await services.workers.run(_hold_against, coming, some, own, keys)
    if differing:
        raise path_conflict(differing)
    return coming


def _hold_against(
    coming: Joining, paths: Sequence[PathRecord], own: Sequence[StoredPath], keys: SigningKeys
) -> list[str]:
    """Some of the paths; the hash parts of which the project says something else. A manifest tells of the
    paths as they were gathered, so it may not.
    """
    known = {path.hash_part: _said(path) for path in own}
    differing = [part for path in paths if known.get(part := path.hash_part, _said(path)) != _said(path)]
    if not differing:
        coming.new.add(new_paths((path for path in paths if path.hash_part not in known), keys))
        if keys.publishers:
            coming.signed.add(_signed(own, {path.hash_part: path for path in paths}, keys))
    return differing


def _signed(
    own: Sequence[StoredPath], paths: Mapping[str, PathRecord], keys: SigningKeys
) -> Iterator[FurtherSigned]:
    for held in own:
        signatures = as_json(signed_further(held, paths[held.hash_part], keys))
        if signatures != held.signatures:
            yield FurtherSigned(held.project, held.hash_part, signatures, held.signatures)


def _said(path: PathRecord) -> tuple[str, str, int, str]:
    return path.name, path.nar_hash, path.nar_size, path.reference_names


async def join(
    services: Services, connection: Connection, project: Project, coming: Joining, now: int
) -> None:
    """The new ones become the project's; all must be to the organization what they are here."""
    each = services.workers.each
    differing: list[str] = []
    async for paths in each(coming.paths.pages()):
        differing += await cache_queries.claim_paths(connection, project.organization, paths)
    if differing:
        raise path_conflict(differing)
    async for paths in each(coming.new.pages()):
        await cache_queries.add_paths(connection, project.id, paths, now)
    async for signed in each(coming.signed.pages()):
        await cache_queries.replace_signatures(connection, signed)


def path_conflict(hash_parts: Sequence[str]) -> HubError:
    """The organization has other content under these paths."""
    return HubError(
        "path-conflict",
        f"The organization holds {len(hash_parts)} of these paths with other content.",
        hint="A build that gives other bytes each time was published from two places. Publish again: then"
        " what the organization has is taken.",
        context={"hash-parts": " ".join(sorted(hash_parts)[: rules.SHOWN_MISSING])},
    )


def base_name(output: Recorded) -> str:
    """Of the path of an output."""
    return StorePath.parse(output.store_path).base_name
