"""An output that was only recorded becomes available by itself once its whole closure is there: in the
project's cache, in another project of the organization that its publisher may read, or at an upstream.

Found out when somebody asks for it. Its manifest is made then, and never changes after that. Where only the
organization's publishers sign, it waits until one of them publishes the version again.
"""

from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import msgspec

from piste.hub.access.records import Actor, Permission, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.gathered import Gathered
from piste.hub.cache.records import PathRecord
from piste.hub.cache.signing import new_paths
from piste.hub.cache.upstreams import Search
from piste.hub.db.base import Connection
from piste.hub.errors import HubError
from piste.hub.registry import queries
from piste.hub.registry.outputs import (
    BuiltManifest,
    keep_manifest,
    sign_statement,
    statement_text,
)
from piste.hub.registry.records import OutputRow, ReleaseRow
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.spooled import PAGE
from piste.nix.closure import ClosureError
from piste.nix.signature import SecretKey
from piste.nix.store_path import StorePath

SHOWN = 10


@dataclass
class _Walk:
    """A closure as far as it is known, by base name."""

    paths: Gathered
    elsewhere: Gathered  # what another project has of it
    pinned: Gathered  # what upstreams have of it
    missing: int = 0

    @property
    def coming(self) -> list[Gathered]:
        """What may join the project now: of other projects only what makes a closure whole."""
        return [self.pinned, *([] if self.missing else [self.elsewhere])]


async def ensure_available(
    services: Services, project: Project, release: ReleaseRow, output: OutputRow, *, seek: bool = True
) -> OutputRow | int:
    """The output with its manifest, or how many paths of its closure are known to be missing; 0 where
    only the signature of a publisher is. `seek`: also look for them outside of the project. ClosureError for
    a circle, which clients that push in any order can bring.
    """
    if output.manifest is not None:
        return output
    keys = await services.keyring.signing_keys(project.organization)
    root = StorePath.parse(output.store_path).base_name
    with ExitStack() as files:
        walk = await _walk(services, project, root, files)
        if walk.missing and seek:
            async with services.upstreams.turn(project.organization):
                walk = await _sought(services, project, release, root, files)
                built = await _built(services, root, walk, keys)
                await _join(services, project, release, walk.coming, files)
        else:
            built = await _built(services, root, walk, keys)
    if built is None:
        return walk.missing
    text = statement_text(project, release.version, release.sequence, output, built.digest)
    signed = sign_statement(text, keys)
    available = msgspec.structs.replace(
        output,
        manifest=built.digest,
        statement=signed.text,
        statement_signatures=signed.signatures_json,
    )
    async with services.database.transaction() as connection:
        counts = (built.path_count, built.nar_size)
        await queries.add_manifest(connection, built.digest, project.id, built.root, counts, services.clock())
        await queries.make_available(connection, release.id, available)
    # Another process may have been first; what is written counts.
    return await queries.output(services.database, release.id, output.attribute) or available


async def all_outputs(services: Services, project: Project, release: ReleaseRow) -> list[OutputRow]:
    """The outputs of a release, those that became available just now too."""
    rows = await queries.outputs(services.database, release.id)
    waiting = [row for row in rows if row.manifest is None]
    roots = [StorePath.parse(row.store_path).hash_part for row in waiting]
    there = {
        path.base_name for path in await cache_queries.paths_of_project(services.database, project.id, roots)
    }
    renewed: dict[str, OutputRow] = {}
    for row in waiting:
        if StorePath.parse(row.store_path).base_name in there:
            with suppress(ClosureError):  # what one output holds must not hide the others
                now = await ensure_available(services, project, release, row, seek=False)
                if isinstance(now, OutputRow):
                    renewed[row.attribute] = now
    return [renewed.get(row.attribute, row) for row in rows]


async def _sought(
    services: Services, project: Project, release: ReleaseRow, root: str, files: ExitStack
) -> _Walk:
    """Walk the closure once more, with everything that may belong to it."""
    author = await queries.publisher_of(services.database, release.id)
    publisher = await services.guard.person(author) if author is not None else None
    # Who has left the organization publishes nothing more to it, and their releases take nothing more.
    reads = publisher is not None and services.guard.may(publisher, Permission.PROJECT_PUBLISH, project)
    async with services.upstreams.search(project.organization) as search:
        return await _walk(
            services, project, root, files, publisher=publisher if reads else None, search=search
        )


async def _built(
    services: Services, root: str, walk: _Walk, keys: Collection[SecretKey]
) -> BuiltManifest | None:
    """None while something is missing, and where the hub can't sign. Before anything joins the project,
    since it also finds a circle.
    """
    if walk.missing:
        return None
    if not keys:
        await services.workers.run(walk.paths.check_order)
        return None
    return await keep_manifest(services, root, walk.paths)


async def _walk(
    services: Services,
    project: Project,
    root: str,
    files: ExitStack,
    *,
    publisher: Actor | None = None,
    search: Search | None = None,
) -> _Walk:
    """A closure, a level at a time. Its files are there as long as `files`."""
    paths, elsewhere, pinned = (files.enter_context(Gathered(services.objects.spool)) for _ in range(3))
    walk = _Walk(paths, elsewhere, pinned)
    while level := await services.workers.run(walk.paths.lacking, [root]):
        for start in range(0, len(level), PAGE):
            await _look_up(services, project, walk, level[start : start + PAGE], publisher, search)
    walk.missing = walk.paths.missing
    return walk


async def _look_up(
    services: Services,
    project: Project,
    walk: _Walk,
    names: list[str],
    publisher: Actor | None,
    search: Search | None,
) -> None:
    """Some of a level."""
    put = services.workers.run
    own = await cache_queries.paths_of_project(services.database, project.id, [name[:32] for name in names])
    found: dict[str, PathRecord] = _named(own, names)
    if publisher is not None and (rest := _rest(names, found)):
        others = await _elsewhere(services, project, publisher, rest)
        found.update(others)
        await put(walk.elsewhere.put, list(others.values()))
    if search is not None and (rest := _rest(names, found)):
        pinned = await search.find(rest)
        found.update(pinned)
        await put(walk.pinned.put, list(pinned.values()))
    await put(walk.paths.put, list(found.values()))


def _rest(level: Collection[str], found: Mapping[str, PathRecord]) -> list[str]:
    return [name for name in level if name not in found]


def _named(found: Collection[PathRecord], names: Collection[str]) -> dict[str, PathRecord]:
    wanted = set(names)
    return {path.base_name: path for path in found if path.base_name in wanted}


async def _elsewhere(
    services: Services, project: Project, publisher: Actor, names: list[str]
) -> dict[str, PathRecord]:
    """What the publisher may read of these in other projects of the organization."""
    found = await cache_queries.paths_of_organization(
        services.database, project.organization, [name[:32] for name in names]
    )
    ids = sorted({path.project for path in found})
    readable = {each.id for each in await services.guard.readable_projects(publisher, ids)}
    # In one order, so that the same is chosen each time.
    chosen = sorted((path for path in found if path.project in readable), key=lambda path: path.project)
    return _named(chosen[::-1], names)


async def _join(
    services: Services, project: Project, release: ReleaseRow, coming: list[Gathered], files: ExitStack
) -> None:
    if not any(map(len, coming)):
        return
    keys = await services.keyring.keys_of(project.organization)
    new = files.enter_context(Gathered(services.objects.spool))
    for paths in coming:
        async for some in services.workers.each(paths.pages()):
            await services.workers.run(lambda records: new.put(new_paths(records, keys)), some)
    async with services.database.transaction() as connection:
        async for some in services.workers.each(new.pages()):
            await _add(connection, project, some, services.clock())
        note(f"version {release.version}, {len(new)} paths found elsewhere")


async def _add(connection: Connection, project: Project, new: list[PathRecord], now: int) -> None:
    differing = await cache_queries.claim_paths(connection, project.organization, new)
    if differing:
        raise HubError(
            "path-conflict",
            f"The organization holds {len(differing)} of these paths with other content.",
            hint="Push the paths of this release to its project.",
            context={"hash-parts": " ".join(sorted(differing)[:SHOWN])},
        )
    await cache_queries.add_paths(connection, project.id, new, now)
