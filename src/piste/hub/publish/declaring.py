"""What a publisher says belongs to the release, and the answer: which NARs are to be uploaded.

A path that only another organization holds is answered like one that nobody holds.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from piste.hub.access.records import Actor, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.pins import pinned_info
from piste.hub.cache.records import StoredPath
from piste.hub.errors import HubError
from piste.hub.publish import queries, rules
from piste.hub.publish.records import MISSING, PINNED, PRESENT, PublicationRow, StagedOutput, StagedPath
from piste.hub.services import Services
from piste.lib.spooled import PAGE, Spooled
from piste.nix.narinfo import PathInfo
from piste.wire.publication import Declared, DeclaredOutput, DeclaredPath

T = TypeVar("T")


class Listed(msgspec.Struct, frozen=True):
    """A declaration whose paths are not taken apart yet, since there may be very many."""

    paths: list[msgspec.Raw] = []
    outputs: list[DeclaredOutput] = []


class _Object(msgspec.Struct):
    """Whatever is in it."""


class _Shape(msgspec.Struct):
    """What a declaration has to be for its paths to be taken as they come."""

    paths: list[_Object] = []


async def declare(
    services: Services, project: Project, actor: Actor, publication: PublicationRow, listed: Listed
) -> Declared:
    """Stage paths and outputs; a path that is declared again keeps what was verified."""
    if len(listed.paths) > rules.MAX_PATHS or len(listed.outputs) > rules.MAX_OUTPUTS:
        raise rules.too_many_paths()
    outputs = await services.workers.run(lambda: [rules.checked_output(output) for output in listed.outputs])
    with Spooled(services.objects.spool, StagedPath) as staged:
        await _stage(services, project, actor, listed.paths, staged)
        async with services.database.transaction() as connection:
            if not await queries.hold_open(connection, publication.id):
                raise HubError("publication-closed", "This publication was finished or abandoned meanwhile.")
            _check_same_outputs(await queries.staged_outputs(connection, publication.id), outputs)
            async for paths in services.workers.each(staged.pages()):
                await queries.stage_paths(connection, publication.id, paths)
                if missing := [path.hash_part for path in paths if path.state == MISSING]:
                    await queries.take_over_verified(
                        connection, publication, actor.person, missing, services.clock()
                    )
            await queries.stage_outputs(connection, publication.id, outputs)
        return await _answer(services, publication, staged)


async def _stage(
    services: Services,
    project: Project,
    actor: Actor,
    listed: Sequence[msgspec.Raw],
    staged: Spooled[StagedPath],
) -> None:
    """All of what is declared, with what is known of it, before anything of it is in the database."""
    upstreams = await cache_queries.upstreams(services.database, project.organization)
    keys = await services.keyring.keys_of(project.organization)
    publishers = frozenset(key.name for key in keys.publishers)

    def stage(declared: Sequence[tuple[DeclaredPath, PathInfo]], held: Mapping[str, StoredPath]) -> None:
        staged.add(
            _staged_path(one, info, held.get(info.path.hash_part), upstreams, publishers)
            for one, info in declared
        )

    for start in range(0, len(listed), PAGE):
        declared = await services.workers.run(_checked, listed[start : start + PAGE])
        parts = [info.path.hash_part for _, info in declared]
        await services.workers.run(stage, declared, await readable_paths(services, project, actor, parts))


def _checked(listed: Sequence[msgspec.Raw]) -> list[tuple[DeclaredPath, PathInfo]]:
    declared = [_decoded(raw, DeclaredPath) for raw in listed]
    return [(path, rules.checked_path(path)) for path in declared]


async def readable_paths(
    services: Services, project: Project, actor: Actor, hash_parts: Sequence[str]
) -> dict[str, StoredPath]:
    """What the publisher may read in the organization, by hash part; what the project itself says comes
    first.
    """
    found = await cache_queries.paths_of_organization(services.database, project.organization, hash_parts)
    projects = await services.guard.readable_projects(actor, sorted({path.project for path in found}))
    # Who may publish to a project is told what it has: nothing of it becomes readable by that.
    readable = {each.id for each in projects} | {project.id}
    held: dict[str, StoredPath] = {}
    for path in sorted(found, key=lambda path: (path.project != project.id, path.project)):
        if path.project in readable:
            held.setdefault(path.hash_part, path)
    return held


def _staged_path(
    declared: DeclaredPath,
    info: PathInfo,
    held: StoredPath | None,
    upstreams: Mapping[str, list[str]],
    publishers: Collection[str],
) -> StagedPath:
    if held is not None and held.name == info.path.name:
        # The hub's word counts: a derivation that gives other bytes each time is no conflict while none are
        # uploaded.
        return rules.with_signatures(_as_present(held), info.signatures, publishers)
    if declared.upstream is None or declared.upstream_narinfo is None:
        return rules.staged(info, MISSING)
    keys = upstreams.get(declared.upstream)
    if keys is None:
        raise HubError(
            "upstream-not-trusted",
            f"{declared.upstream[:300]} is no upstream of this organization.",
            hint="An admin adds one with `piste org upstream add URL KEY`.",
        )
    pinned = pinned_info(info, declared.upstream_narinfo, keys)
    if pinned is None:
        return rules.staged(info, MISSING)
    row = rules.staged(pinned, PINNED, upstream=declared.upstream, narinfo=declared.upstream_narinfo)
    return rules.with_signatures(row, info.signatures, publishers)


def _as_present(held: StoredPath) -> StagedPath:
    """What is known of a path already, as a part of a publication."""
    fields = {name: getattr(held, name) for name in StagedPath.__struct_fields__ if name != "state"}
    return StagedPath(**fields, state=PRESENT)


def _check_same_outputs(before: Sequence[StagedOutput], outputs: Sequence[StagedOutput]) -> None:
    known = {output.attribute: output.store_path for output in before}
    for output in outputs:
        if known.setdefault(output.attribute, output.store_path) != output.store_path:
            raise HubError(
                "content-differs",
                f"The output {output.attribute} was declared as {known[output.attribute]} before.",
                hint="Machines that fill one release publish the same commit.",
            )


async def _answer(services: Services, publication: PublicationRow, staged: Spooled[StagedPath]) -> Declared:
    missing: list[str] = []
    states: Counter[str] = Counter()
    told: set[str] = set()  # one may have been declared twice
    async for paths in services.workers.each(staged.pages()):
        parts = {path.hash_part for path in paths} - told
        told |= parts
        rows = await queries.staged_states(services.database, publication.id, list(parts))
        states.update(row["state"] for row in rows)
        missing += (f"{row['hash_part']}-{row['name']}" for row in rows if row["state"] == MISSING)
    return Declared(
        missing=sorted(missing),
        present=states.total() - states[MISSING] - states[PINNED],
        pinned=states[PINNED],
    )


def declaration_from(data: bytearray) -> Listed:
    """Read a declaration; in a thread, since it may be large."""
    try:
        # A list of ten million of nothing would take a gigabyte, and has fewer bytes than many a declaration.
        if data.count(b"}") > rules.MAX_PATHS + rules.MAX_OUTPUTS + 1:
            raise rules.too_many_paths()
        _decoded(data, _Shape)
        return _decoded(data, Listed)
    except HubError:
        data.clear()  # the error remembers for a while what it was about
        raise


def _decoded(data: bytearray | msgspec.Raw, into: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubError("bad-request", f"The declaration can't be read: {error}.") from error
