"""What a publication has come to: its paths, which of them are complete, and what joins the project.

Looks and computes; `join` alone writes, inside the transaction of whoever publishes.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from piste.hub.access.keys import SigningKeys
from piste.hub.access.records import Actor, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.queries import as_json
from piste.hub.cache.records import NewPath, PathRecord, StoredPath
from piste.hub.cache.signing import new_paths, signed_further
from piste.hub.db.base import Connection
from piste.hub.errors import HubError
from piste.hub.publish import queries, rules
from piste.hub.publish.declaring import as_present, readable_paths
from piste.hub.publish.records import PublicationRow, StagedOutput, StagedPath
from piste.hub.registry.outputs import BuiltManifest, Recorded, build_manifest
from piste.hub.services import Services
from piste.nix.closure import ClosureError, topological_order
from piste.nix.store_path import StorePath


@dataclass(frozen=True)
class Joining:
    """Paths that are complete in themselves, on their way into a project."""

    paths: Mapping[str, StagedPath]  # by base name
    new: Sequence[NewPath]  # those that the project does not have
    # project, hash part, signatures as they become and as they were: of those that it has
    signed: Sequence[tuple[str, str, str, str]]


async def staged_paths(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    roots: Collection[str] = (),
) -> dict[str, StagedPath]:
    """The staged paths by base name, completed by what the organization has of what is not staged or did not
    arrive, and of `roots` (base names).
    """
    paths = {path.base_name: path for path in await queries.staged_paths(services.database, publication.id)}
    asked: set[str] = set()
    while True:
        mentioned = {name for path in paths.values() for name in path.references} | paths.keys() | set(roots)
        wanted = {
            name for name in mentioned - asked if name not in paths or paths[name].state not in rules.READY
        }
        if not wanted:
            return paths
        asked |= wanted
        held = await readable_paths(services, project, actor, sorted(name[:32] for name in wanted))
        found = {path.base_name: as_present(path) for path in held.values()}
        paths.update({name: path for name, path in found.items() if name in wanted})


def complete_names(paths: Mapping[str, StagedPath]) -> set[str]:
    """The paths that are there with everything that they reach."""
    referrers: Mapping[str, list[str]] = defaultdict(list)
    broken: list[str] = []
    for name, path in paths.items():
        if path.state not in rules.READY or any(reference not in paths for reference in path.references):
            broken.append(name)
        for reference in path.references:
            referrers[reference].append(name)
    seen = set(broken)
    for name in broken:
        for referrer in referrers[name]:
            if referrer not in seen:
                seen.add(referrer)
                broken.append(referrer)
    return set(paths) - seen


async def gathered_paths(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    roots: Collection[str],
) -> tuple[dict[str, StagedPath], set[str]]:
    """What a release consists of by base name, and which of it is complete. A circle that somebody has pushed
    before keeps what it is in from being available, and no release from being published.
    """
    paths = await staged_paths(services, project, actor, publication, roots)
    complete = await services.workers.run(complete_names, paths)
    if roots and not await services.workers.run(_in_order, {name: paths[name] for name in complete}):
        return await gathered_paths(services, project, actor, publication, ())
    return paths, complete


def check_required(
    outputs: Sequence[StagedOutput], paths: Mapping[str, StagedPath], complete: Collection[str]
) -> None:
    for output in outputs:
        root = base_name(output)
        if output.required and root not in complete:
            raise rules.output_incomplete(output.attribute, rules.missing_chains(root, paths))


def _in_order(paths: Mapping[str, PathRecord]) -> bool:
    try:
        topological_order({name: path.references for name, path in paths.items()}, paths.keys())
    except ClosureError:
        return False
    return True


def _check_no_circle(paths: Mapping[str, PathRecord]) -> None:
    """Also what no output reaches becomes the project's: a circle in it would never be found again."""
    try:
        among = {name: [each for each in path.references if each in paths] for name, path in paths.items()}
        topological_order(among, paths.keys())
    except ClosureError as error:
        raise _circle(error) from error


def manifest_of(root: str, paths: Mapping[str, PathRecord]) -> BuiltManifest:
    """The manifest of a complete closure. CPU work: call it in a thread."""
    try:
        return build_manifest(root, paths)
    except ClosureError as error:
        raise _circle(error) from error


def _circle(error: ClosureError) -> HubError:
    return HubError("bad-path-info", f"The closure can't be put in order: {error}.")


async def joining(
    services: Services, project: Project, paths: Mapping[str, StagedPath], keys: SigningKeys
) -> Joining:
    """The paths with all their signatures, held against what the project says of them already."""
    await services.workers.run(_check_no_circle, paths)
    own = await cache_queries.paths_of_project(
        services.database, project.id, [path.hash_part for path in paths.values()]
    )
    known = {path.hash_part: _said(path) for path in own}
    # A manifest tells of the paths as they were staged, so the project may say nothing else of them.
    differing = [
        part for path in paths.values() if known.get(part := path.hash_part, _said(path)) != _said(path)
    ]
    if differing:
        raise path_conflict(differing)
    fresh = [path for path in paths.values() if path.hash_part not in known]
    new = await services.workers.run(new_paths, fresh, keys)
    signed = await services.workers.run(_signed, own, paths, keys) if keys.publishers else []
    return Joining(paths, new, signed)


def _signed(
    own: Sequence[StoredPath], paths: Mapping[str, StagedPath], keys: SigningKeys
) -> list[tuple[str, str, str, str]]:
    changed = []
    for held in own:
        signatures = as_json(signed_further(held, paths[held.base_name], keys))
        if signatures != held.signatures:
            changed.append((held.project, held.hash_part, signatures, held.signatures))
    return changed


def _said(path: PathRecord) -> tuple[str, str, int, str]:
    return path.name, path.nar_hash, path.nar_size, path.reference_names


async def join(connection: Connection, project: Project, coming: Joining, now: int) -> None:
    """The new ones become the project's; all must be to the organization what they are here."""
    claimed = [NewPath(path, []) for path in coming.paths.values()]
    differing = await cache_queries.claim_paths(connection, project.organization, claimed)
    if differing:
        raise path_conflict(differing)
    await cache_queries.add_paths(connection, project.id, coming.new, now)
    await cache_queries.replace_signatures(connection, coming.signed)


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
