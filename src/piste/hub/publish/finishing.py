"""The end of a publication: its release becomes visible, all of it or nothing.

First everything is looked at, then the objects are written, then the rows in one transaction. A crash before
its end leaves objects that nothing names; the publication stays open and can be finished again. Where
publishers hold the keys, the first call ends with the statements that they are to sign, and nothing is
visible until a second one brings the signatures.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import msgspec

from piste.hub.access.records import Actor, Project
from piste.hub.cache.gathered import Gathered
from piste.hub.db.base import ConflictError, Connection
from piste.hub.errors import HubError, not_found
from piste.hub.publish import queries
from piste.hub.publish.again import publish_again, published
from piste.hub.publish.gathering import (
    Joining,
    base_name,
    gathered_paths,
    join,
    joining,
    manifest_of,
)
from piste.hub.publish.records import FINISHED, PublicationRow, ReleaseContent, StagedOutput
from piste.hub.publish.signers import Signers, check_keys, signers_of
from piste.hub.registry.deleting import check_not_deleted
from piste.hub.registry.outputs import BuiltManifest, sign_statement, statement_text
from piste.hub.registry.queries import add_manifest
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.identifiers import new_id
from piste.semver.version import Version
from piste.wire.publication import Finish, Published, Unsigned


@dataclass(frozen=True)
class _Prepared:
    """A release that lacks nothing but its rows."""

    id: str
    publication: PublicationRow
    version: Version
    content: str
    outputs: Sequence[StagedOutput]
    manifests: Mapping[str, BuiltManifest]  # by base name of the root
    coming: Joining
    signers: Signers
    published_by: str | None
    now: int
    sequence: int | None = None  # None: the next one
    given: Mapping[str, Sequence[str]] = field(default_factory=dict)  # statement -> publisher's signatures


class _OvertakenError(Exception):
    """A release with a later number became visible while the publisher was signing."""


async def finish(
    services: Services, project: Project, actor: Actor, publication: PublicationRow, said: Finish
) -> Published | Unsigned:
    """Publish, or say that the same content is published already, or what is to be signed first."""
    version = Version.parse(publication.version)
    signers = signers_of(await services.keyring.keys_of(project.organization), said)
    outputs = await queries.staged_outputs(services.database, publication.id)
    if publication.source is None:
        raise HubError("bad-source", "The publication has no source.", hint="Upload the source first.")
    content = content_of(publication.source, outputs, publication.said.revision)
    existing = await queries.release_of_version(services.database, project.id, version.sort_key())
    if existing is not None:
        return await publish_again(services, project, actor, publication, outputs, existing, content, signers)
    if publication.state == FINISHED:
        raise not_found()  # its release was removed with the project's others
    try:
        answer = await _publish_first(services, project, actor, publication, outputs, content, signers)
    except ConflictError:
        # Another publisher of this version was first; what it published decides.
        existing = await queries.release_of_version(services.database, project.id, version.sort_key())
        if existing is None:
            raise
        return await publish_again(services, project, actor, publication, outputs, existing, content, signers)
    if isinstance(answer, Unsigned):
        return answer
    return await published(services, project, answer, str(version), created=True)


async def _publish_first(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    outputs: Sequence[StagedOutput],
    content: str,
    signers: Signers,
) -> str | Unsigned:
    """The id of the release; ConflictError where the version is there by now."""
    # A publisher that signs is asked for statements on what it brought itself, and on nothing else.
    roots = [] if signers.asked else [base_name(output) for output in outputs]
    with ExitStack() as files:
        paths = await gathered_paths(services, project, actor, publication, outputs, files, roots)
        manifests = await _manifests(services, outputs, paths)
        coming = await joining(services, project, paths, signers.keys, files)
        now = services.clock()
        prepared = _Prepared(
            id=new_id(now),
            publication=publication,
            version=Version.parse(publication.version),
            content=content,
            outputs=outputs,
            manifests=manifests,
            coming=coming,
            signers=signers,
            published_by=actor.person,
            now=now,
        )
        unsigned = await _publish(services, project, prepared)
    return prepared.id if unsigned is None else unsigned


async def _publish(services: Services, project: Project, prepared: _Prepared) -> Unsigned | None:
    """None when the release is visible."""
    if prepared.signers.asked:
        sequence = prepared.publication.sequence
        if sequence is None:
            sequence = await _reserve(services, project, prepared)
        texts = _statements(project, prepared, sequence)
        given = await services.workers.run(prepared.signers.signatures, texts)
        if given is None:
            return Unsigned(sequence, texts)
        prepared = replace(prepared, sequence=sequence, given=given)
    try:
        async with services.database.transaction() as connection:
            await _commit(services, connection, project, prepared)
            note(f"version {prepared.version} release {prepared.id}")
    except _OvertakenError:
        sequence = await _reserve(services, project, prepared)
        return Unsigned(sequence, _statements(project, prepared, sequence))
    return None


async def _reserve(services: Services, project: Project, prepared: _Prepared) -> int:
    async with services.database.transaction() as connection:
        sequence = await queries.reserve_sequence(connection, project.id, prepared.publication.id)
    if sequence is None:
        raise not_found()
    return sequence


def _statements(project: Project, prepared: _Prepared, sequence: int) -> list[str]:
    """Of the outputs that are available."""
    return [
        text
        for output in prepared.outputs
        if (text := _statement(project, prepared, sequence, output)) is not None
    ]


def _statement(project: Project, prepared: _Prepared, sequence: int, output: StagedOutput) -> str | None:
    built = prepared.manifests.get(base_name(output))
    if built is None:
        return None
    return statement_text(project, str(prepared.version), sequence, output, built.digest)


def content_of(source: str, outputs: Sequence[StagedOutput], revision: str | None) -> str:
    """The digest by which two publications of one version are compared."""
    content = ReleaseContent({output.attribute: output.store_path for output in outputs}, revision, source)
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


async def _manifests(
    services: Services, outputs: Sequence[StagedOutput], paths: Gathered
) -> dict[str, BuiltManifest]:
    """Of the outputs that are available, by base name of the root; kept when it returns."""
    roots = sorted(name for name in {base_name(output) for output in outputs} if name in paths)
    return {root: await manifest_of(services, root, paths) for root in roots}


async def _commit(services: Services, connection: Connection, project: Project, prepared: _Prepared) -> None:
    """All rows of the release; any error takes all of them back."""
    if not await queries.close(connection, prepared.publication.id):
        raise HubError("publication-closed", "This publication was finished or abandoned meanwhile.")
    await check_keys(connection, project.organization, prepared.signers)
    sequence = prepared.sequence
    if sequence is None:
        sequence = await queries.next_sequence(connection, project.id)
        if sequence is None:
            raise not_found()
    elif not await queries.is_newest_sequence(connection, project.id, sequence):
        raise _OvertakenError
    await join(services, connection, project, prepared.coming, prepared.now)
    for built in prepared.manifests.values():
        counts = (built.path_count, built.nar_size)
        await add_manifest(connection, built.digest, project.id, built.root, counts, prepared.now)
    await check_not_deleted(connection, project.id, prepared.version)
    await queries.add_release(connection, _release_values(project, prepared, sequence))
    await queries.hand_over_document(connection, prepared.publication.id, prepared.id)
    await queries.settle_project(connection, project.id)
    await queries.add_outputs(
        connection, [_output_values(project, prepared, sequence, output) for output in prepared.outputs]
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
        said.mirrored,
    ]


def _output_values(
    project: Project, prepared: _Prepared, sequence: int, output: StagedOutput
) -> list[str | None]:
    recorded = [prepared.id, output.attribute, output.store_path, output.system]
    text = _statement(project, prepared, sequence, output)
    if text is None:
        return [*recorded, None, None, None]
    signed = sign_statement(text, prepared.signers.keys.secret, prepared.given.get(text, ()))
    manifest = prepared.manifests[base_name(output)].digest
    return [*recorded, manifest, signed.text, signed.signatures_json]
