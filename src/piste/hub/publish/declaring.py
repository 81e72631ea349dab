"""What a publisher says belongs to the release, and the answer: which NARs are to be uploaded.

A path that only another organization holds is answered like one that nobody holds.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from piste.hub.access.records import Actor, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.pins import pinned_info
from piste.hub.cache.records import StoredPath
from piste.hub.errors import HubError
from piste.hub.publish import queries, rules
from piste.hub.publish.records import MISSING, PINNED, PRESENT, PublicationRow, StagedOutput, StagedPath
from piste.hub.services import Services
from piste.nix.narinfo import PathInfo
from piste.wire.publication import Declaration, Declared, DeclaredPath


async def declare(
    services: Services, project: Project, actor: Actor, publication: PublicationRow, declaration: Declaration
) -> Declared:
    """Stage paths and outputs; a path that is declared again keeps what was verified."""
    if len(declaration.paths) > rules.MAX_PATHS or len(declaration.outputs) > rules.MAX_OUTPUTS:
        raise HubError("body-too-large", f"One declaration has at most {rules.MAX_PATHS} paths.")
    outputs = [rules.checked_output(output) for output in declaration.outputs]
    infos = await services.workers.run(lambda: [rules.checked_path(path) for path in declaration.paths])
    held = await readable_paths(services, project, actor, [info.path.hash_part for info in infos])
    upstreams = await cache_queries.upstreams(services.database, project.organization)
    keys = await services.keyring.keys_of(project.organization)
    publishers = frozenset(key.name for key in keys.publishers)
    rows = await services.workers.run(_stage, declaration.paths, infos, held, upstreams, publishers)
    async with services.database.transaction() as connection:
        if not await queries.hold_open(connection, publication.id):
            raise HubError("publication-closed", "This publication was finished or abandoned meanwhile.")
        _check_same_outputs(await queries.staged_outputs(connection, publication.id), outputs)
        await queries.stage_paths(connection, publication.id, rows)
        missing = [row.hash_part for row in rows if row.state == MISSING]
        if missing:
            await queries.take_over_verified(connection, publication, actor.person, missing, services.clock())
        await queries.stage_outputs(connection, publication.id, outputs)
    return await _answer(services, publication, [row.hash_part for row in rows])


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


def _stage(
    declared: Sequence[DeclaredPath],
    infos: Sequence[PathInfo],
    held: Mapping[str, StoredPath],
    upstreams: Mapping[str, list[str]],
    publishers: Collection[str],
) -> list[StagedPath]:
    return [
        _staged_path(one, info, held.get(info.path.hash_part), upstreams, publishers)
        for one, info in zip(declared, infos, strict=True)
    ]


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
        return rules.with_signatures(as_present(held), info.signatures, publishers)
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


def as_present(held: StoredPath) -> StagedPath:
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


async def _answer(services: Services, publication: PublicationRow, hash_parts: Sequence[str]) -> Declared:
    rows = await queries.staged_states(services.database, publication.id, hash_parts)
    states = [row["state"] for row in rows]
    return Declared(
        missing=sorted(f"{row['hash_part']}-{row['name']}" for row in rows if row["state"] == MISSING),
        present=sum(state not in (MISSING, PINNED) for state in states),
        pinned=states.count(PINNED),
    )


def declaration_from(data: bytes) -> Declaration:
    """Read a declaration; in a thread, since it may be large."""
    try:
        return msgspec.json.decode(data, type=Declaration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubError("bad-request", f"The declaration can't be read: {error}.") from error
