"""The end of a publication: its release becomes visible, all of it or nothing.

First everything is looked at, then the objects are written, then the rows in one transaction. A crash before
its end leaves objects that nothing names; the publication stays open and can be finished again.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from piste.hub.access.records import Actor, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.records import NewPath, PathRecord
from piste.hub.cache.signing import new_paths
from piste.hub.db.base import ConflictError, Connection, Row
from piste.hub.errors import HubError, not_found
from piste.hub.publish import queries, rules
from piste.hub.publish.declaring import as_present, readable_paths
from piste.hub.publish.records import (
    FINISHED,
    OPEN,
    PublicationRow,
    ReleaseContent,
    StagedOutput,
    StagedPath,
)
from piste.hub.registry.availability import all_outputs
from piste.hub.registry.outputs import BuiltManifest, build_manifest, put_manifest, sign_statement
from piste.hub.registry.queries import add_manifest, release_by_id
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.identifiers import new_id
from piste.nix.closure import ClosureError, topological_order
from piste.nix.signature import SecretKey
from piste.nix.store_path import StorePath
from piste.semver.version import Version
from piste.wire.publication import Published


@dataclass(frozen=True)
class _Prepared:
    """A release that lacks nothing but its rows."""

    id: str
    publication: PublicationRow
    version: Version
    content: str
    outputs: Sequence[StagedOutput]
    manifests: Mapping[str, BuiltManifest]  # by base name of the root
    paths: Mapping[str, StagedPath]
    new: Sequence[NewPath]
    keys: Sequence[SecretKey]
    published_by: str | None
    now: int


async def finish(
    services: Services, project: Project, actor: Actor, publication: PublicationRow
) -> Published:
    """Publish, or say that the same content is published already."""
    version = Version.parse(publication.version)
    outputs = await queries.staged_outputs(services.database, publication.id)
    if publication.source is None:
        raise HubError("bad-source", "The publication has no source.", hint="Upload the source first.")
    content = content_of(publication.source, outputs, publication.said.revision)
    existing = await queries.release_of_version(services.database, project.id, version.sort_key())
    if existing is not None:
        return await _as_before(services, project, actor, publication, outputs, existing, content)
    if publication.state == FINISHED:
        raise not_found()  # its release was removed with the project's others
    paths = await _staged(services, project, actor, publication)
    complete = await services.workers.run(complete_names, paths)
    _check_required(outputs, paths, complete)
    prepared = await _prepare(
        services, project, actor, publication, outputs, {n: paths[n] for n in complete}, content
    )
    try:
        async with services.database.transaction() as connection:
            await _commit(connection, project, prepared)
            note(f"version {version} release {prepared.id}")
    except ConflictError:
        # Another publisher of this version was first; what it published decides.
        existing = await queries.release_of_version(services.database, project.id, version.sort_key())
        if existing is None:
            raise
        return await _as_before(services, project, actor, publication, outputs, existing, content)
    return await _published(services, project, prepared.id, str(version), created=True)


def content_of(source: str, outputs: Sequence[StagedOutput], revision: str | None) -> str:
    """The digest by which two publications of one version are compared."""
    content = ReleaseContent({output.attribute: output.store_path for output in outputs}, revision, source)
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


async def _as_before(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    outputs: Sequence[StagedOutput],
    existing: Row,
    content: str,
) -> Published:
    if existing["content"] != content:
        raise HubError(
            "content-differs",
            f"Version {existing['version']} of {project.name} is published with other content.",
            hint="A version never changes. Publish the next one.",
        )
    if publication.state == OPEN:
        await _bring_rest(services, project, actor, publication, outputs)
        release = await release_by_id(services.database, project.id, existing["id"])
        if release is not None:
            await all_outputs(services, project, release)
    return await _published(services, project, existing["id"], existing["version"], created=False)


async def _bring_rest(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    outputs: Sequence[StagedOutput],
) -> None:
    """A release never changes, but what it only recorded may be built later: its paths then join the
    project, which makes it available.
    """
    paths = await _staged(services, project, actor, publication)
    complete = await services.workers.run(complete_names, paths)
    _check_required(outputs, paths, complete)
    chosen = {name: paths[name] for name in complete}
    keys = await services.keyring.signing_keys(project.organization)
    new = await _new_to(services, project, chosen, keys)
    async with services.database.transaction() as connection:
        if await queries.close(connection, publication.id):
            await _add_paths(connection, project, chosen, new, services.clock())


async def _staged(
    services: Services, project: Project, actor: Actor, publication: PublicationRow
) -> dict[str, StagedPath]:
    """The staged paths by base name, completed by what the organization has of what is not staged or did not
    arrive.
    """
    paths = {path.base_name: path for path in await queries.staged_paths(services.database, publication.id)}
    asked: set[str] = set()
    while True:
        mentioned = {name for path in paths.values() for name in path.references} | paths.keys()
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


def _check_required(
    outputs: Sequence[StagedOutput], paths: Mapping[str, StagedPath], complete: Collection[str]
) -> None:
    for output in outputs:
        root = _base_name(output)
        if output.required and root not in complete:
            raise rules.output_incomplete(output.attribute, rules.missing_chains(root, paths))


async def _prepare(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    outputs: Sequence[StagedOutput],
    paths: Mapping[str, StagedPath],
    content: str,
) -> _Prepared:
    """Build and sign everything, and write the objects. `paths` is complete in itself."""
    roots = sorted({_base_name(output) for output in outputs} & paths.keys())
    try:
        # Also what no output reaches becomes the project's: a circle in it would never be found again.
        await services.workers.run(
            topological_order, {name: path.references for name, path in paths.items()}, paths.keys()
        )
        manifests = await services.workers.run(lambda: {root: build_manifest(root, paths) for root in roots})
    except ClosureError as error:
        raise HubError("bad-path-info", f"The closure can't be put in order: {error}.") from error
    for built in manifests.values():
        await put_manifest(services.objects, built)
    keys = await services.keyring.signing_keys(project.organization)
    new = await _new_to(services, project, paths, keys)
    now = services.clock()
    return _Prepared(
        id=new_id(now),
        publication=publication,
        version=Version.parse(publication.version),
        content=content,
        outputs=outputs,
        manifests=manifests,
        paths=paths,
        new=new,
        keys=keys,
        published_by=actor.person,
        now=now,
    )


async def _new_to(
    services: Services, project: Project, paths: Mapping[str, StagedPath], keys: Sequence[SecretKey]
) -> list[NewPath]:
    """Those of the paths that the project does not have, signed."""
    public = await services.keyring.public_keys(project.organization)
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
    return await services.workers.run(new_paths, fresh, keys, public)


def _said(path: PathRecord) -> tuple[str, str, int, str]:
    return path.name, path.nar_hash, path.nar_size, path.reference_names


async def _commit(connection: Connection, project: Project, prepared: _Prepared) -> None:
    """All rows of the release; any error takes all of them back."""
    if not await queries.close(connection, prepared.publication.id):
        raise HubError("publication-closed", "This publication was finished or abandoned meanwhile.")
    sequence = await queries.next_sequence(connection, project.id)
    if sequence is None:
        raise not_found()
    await _add_paths(connection, project, prepared.paths, prepared.new, prepared.now)
    for built in prepared.manifests.values():
        counts = (built.path_count, built.nar_size)
        await add_manifest(connection, built.digest, project.id, built.root, counts, prepared.now)
    await queries.add_release(connection, _release_values(project, prepared, sequence))
    await queries.add_outputs(
        connection, [_output_values(project, prepared, sequence, output) for output in prepared.outputs]
    )


async def _add_paths(
    connection: Connection,
    project: Project,
    paths: Mapping[str, StagedPath],
    new: Sequence[NewPath],
    now: int,
) -> None:
    """`new` join the project; all of `paths` must be to the organization what they are here."""
    claimed = [NewPath(path, []) for path in paths.values()]
    differing = await cache_queries.claim_paths(connection, project.organization, claimed)
    if differing:
        raise path_conflict(differing)
    await cache_queries.add_paths(connection, project.id, new, now)


def path_conflict(hash_parts: Sequence[str]) -> HubError:
    """The organization has other content under these paths."""
    return HubError(
        "path-conflict",
        f"The organization holds {len(hash_parts)} of these paths with other content.",
        hint="A build that gives other bytes each time was published from two places. Publish again: then"
        " what the organization has is taken.",
        context={"hash-parts": " ".join(sorted(hash_parts)[: rules.SHOWN_MISSING])},
    )


def _release_values(
    project: Project, prepared: _Prepared, sequence: int
) -> list[str | int | bool | bytes | None]:
    publication, said = prepared.publication, prepared.publication.said
    return [
        prepared.id,
        project.id,
        str(prepared.version),
        prepared.version.sort_key(),
        sequence,
        prepared.version.is_prerelease,
        publication.rolling,
        prepared.content,
        publication.source,
        publication.source_size,
        said.description,
        msgspec.json.encode(said.labels).decode(),
        said.license or publication.source_license,
        said.repository,
        said.subdirectory,
        said.revision,
        said.commit_count,
        publication.readme,
        prepared.published_by,
        prepared.now,
    ]


def _output_values(
    project: Project, prepared: _Prepared, sequence: int, output: StagedOutput
) -> list[str | None]:
    built = prepared.manifests.get(_base_name(output))
    recorded = [prepared.id, output.attribute, output.store_path, output.system]
    if built is None:
        return [*recorded, None, None, None]
    signed = sign_statement(
        project,
        str(prepared.version),
        sequence,
        attribute=output.attribute,
        store_path=output.store_path,
        system=output.system,
        manifest=built.digest,
        keys=prepared.keys,
    )
    return [*recorded, built.digest, signed.text, signed.signatures_json]


async def _published(
    services: Services, project: Project, release: str, version: str, *, created: bool
) -> Published:
    name = f"{project.organization_name}/{project.name}"
    return Published(
        release_id=release,
        organization=project.organization_name,
        project=project.name,
        version=version,
        created=created,
        visibility=project.visibility,
        outputs=await queries.available_outputs(services.database, release),
        flakeref_at_least=f"{name}/{version}",
        flakeref_exact=f"{name}/={version}",
    )


def _base_name(output: StagedOutput) -> str:
    return StorePath.parse(output.store_path).base_name
