"""Finding what a reader asks for: through one project, or through the union of all that the reader may read.

What the reader may not read is answered like what is not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urljoin

from piste.hub.access.records import Actor, Kind, Permission, Project
from piste.hub.cache import queries
from piste.hub.cache.records import StoredPath, nar_file
from piste.hub.cache.rules import NarFile, united
from piste.hub.errors import HubError, not_found
from piste.hub.registry.outputs import manifest_key
from piste.hub.services import Services
from piste.lib.spooled import PAGE
from piste.nix.store_path import StorePathError, parse_hash_part
from piste.wire.manifest import decode_manifest
from piste.wire.plan import PackedSources, pack_sources
from piste.wire.resolution import ManifestSources, NarSource

# Only a closure token may read a project's cache and not all of it.
# Sources that one request can have.
PLACES_LIMIT = 4096
OUTSIDE = "it is outside of the token's closure"


def missing(actor: Actor) -> HubError:
    """Not there, or not for this actor."""
    return not_found(OUTSIDE if actor.kind is Kind.CLOSURE else None)


async def path_of(services: Services, actor: Actor, project: Project | None, text: str) -> StoredPath | None:
    """What is said of the path with this hash part; `project` is None at the root."""
    try:
        hash_part = parse_hash_part(text)
    except StorePathError:
        return None
    if project is not None:
        if not await services.guard.may_read_path(actor, project, hash_part):
            raise not_found(OUTSIDE)
        return await queries.path_of_project(services.database, project.id, hash_part)
    reach = services.guard.reach(actor)
    found = await queries.paths_by_hash_part(services.database, hash_part, reach)
    projects = await readable(services, actor, (path.project for path in found))
    return united(
        [
            path
            for path in found
            if path.project in projects
            and await services.guard.may_read_path(actor, projects[path.project], hash_part)
        ]
    )


async def holders_of(
    services: Services, actor: Actor, project: Project | None, file: NarFile
) -> list[StoredPath]:
    """The paths whose NAR is asked for by one of our names, as far as the reader may have it."""
    if project is not None:
        if not await services.guard.may_read_nar(actor, project, file.nar_hash):
            return []
        return await queries.paths_of_project_by_nar(services.database, project.id, file.nar_hash)
    reach = services.guard.reach(actor)
    found = await queries.paths_by_nar(services.database, file.nar_hash, reach)
    projects = await readable(services, actor, (path.project for path in found))
    return [
        path
        for path in found
        if path.project in projects
        and await services.guard.may_read_nar(actor, projects[path.project], file.nar_hash)
    ]


async def readable(
    services: Services, actor: Actor, found: Iterable[str], project: Project | None = None
) -> dict[str, Project]:
    """Projects by id: the one that was asked, or those of these ids that belong to the actor's root."""
    if project is not None:
        return {project.id: project}
    ids = sorted(set(found))
    if not ids:
        return {}
    return {each.id: each for each in await services.guard.readable_projects(actor, ids)}


def upstream_address(holders: list[StoredPath], file: NarFile) -> str | None:
    """Where a pinned NAR is, when it is asked for by the name that its narinfo has here."""
    for path in holders:
        pinned = path.pinned()
        if pinned is None or path.upstream is None:
            continue
        if nar_file(path.nar_hash, pinned.compression) == f"{file.digest}.nar{file.suffix}":
            return nar_address(path.upstream, pinned.url)
    return None


def nar_address(upstream: str, url: str) -> str:
    """The absolute address of an upstream's NAR; that `url` stays below it was checked when it was pinned."""
    return urljoin(upstream.rstrip("/") + "/", url)


async def sources_of(services: Services, project: Project, digest: str) -> ManifestSources | None:
    """Where the NARs of a manifest come from and who vouches for each path; None where it is gone."""
    data = await services.objects.read(manifest_key(digest))
    if data is None:
        return None
    manifest = await services.workers.run(decode_manifest, data, digest)
    sources: list[NarSource] = []
    for start in range(0, len(manifest.paths), PAGE):
        names = [entry.path for entry in manifest.paths[start : start + PAGE]]
        rows = await queries.paths_of_project(services.database, project.id, [name[:32] for name in names])
        found = await services.workers.run(_sources, names, rows)
        if found is None:
            return None
        sources += found
    return ManifestSources(digest, sources)


def _sources(names: Sequence[str], rows: Sequence[StoredPath]) -> list[NarSource] | None:
    """In the order of the names; None where one of them is gone."""
    by_name = {row.base_name: row for row in rows}
    if any(name not in by_name for name in names):
        return None
    return [_source(by_name[name]) for name in names]


async def sources_at(services: Services, project: Project, parts: Mapping[int, str]) -> PackedSources:
    """Of the paths at some places of a manifest, given by their hash parts. What the project does not have
    any more is left out."""
    wanted = list(parts.values())
    found: dict[str, NarSource] = {}
    for start in range(0, len(wanted), PAGE):
        rows = await queries.paths_of_project(services.database, project.id, wanted[start : start + PAGE])
        found |= await services.workers.run(lambda some: {row.hash_part: _source(row) for row in some}, rows)

    def pack() -> PackedSources:
        there = [place for place, part in parts.items() if part in found]
        return pack_sources(there, [found[parts[place]] for place in there])

    return await services.workers.run(pack)


def _source(path: StoredPath) -> NarSource:
    pinned = path.pinned()
    if pinned is not None and path.upstream is not None:
        url = nar_address(path.upstream, pinned.url)
        return NarSource(url, pinned.compression, path.all_signatures, pinned.file_size)
    return NarSource(f"nar/{nar_file(path.nar_hash, 'zstd')}", "zstd", path.all_signatures, path.file_size)


def may_see_pushed(services: Services, actor: Actor, project: Project) -> bool:
    """Whether somebody may know which NARs were put but not described yet: only who could have put them."""
    return services.guard.may(actor, Permission.CACHE_WRITE, project)
