"""A version that is published already: the same content may come again, other content may not.

A release never changes, but what it only recorded may be built later, and what one key has signed may be
signed by another: then this publication brings what is lacking.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec

from piste.hub.access.records import Actor, Project
from piste.hub.cache.gathered import Gathered
from piste.hub.cache.signing import name_of
from piste.hub.db.base import Connection, Row
from piste.hub.errors import HubError, not_found
from piste.hub.publish import queries
from piste.hub.publish.gathering import (
    base_name,
    gathered_paths,
    join,
    joining,
    manifest_of,
)
from piste.hub.publish.records import OPEN, PublicationRow, StagedOutput
from piste.hub.publish.signers import Signers, check_keys
from piste.hub.registry import queries as registry_queries
from piste.hub.registry.availability import all_outputs
from piste.hub.registry.outputs import BuiltManifest, sign_statement, statement_text
from piste.hub.registry.records import OutputRow, ReleaseRow
from piste.hub.services import Services
from piste.wire.publication import Published, Unsigned


@dataclass(frozen=True)
class _Lacking:
    """An output whose statement lacks a signature of the publisher's."""

    row: OutputRow
    text: str
    built: BuiltManifest | None  # where it becomes available only now


async def publish_again(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    outputs: Sequence[StagedOutput],
    existing: Row,
    content: str,
    signers: Signers,
) -> Published | Unsigned:
    """What the version's publication said, if the content is the same."""
    if existing["content"] != content:
        raise HubError(
            "content-differs",
            f"Version {existing['version']} of {project.name} is published with other content.",
            hint="A version never changes. Publish the next one.",
        )
    if publication.state == OPEN:
        release = await registry_queries.release_by_id(services.database, project.id, existing["id"])
        if release is None:
            raise not_found()
        unsigned = await _bring_rest(services, project, actor, publication, outputs, release, signers)
        if unsigned is not None:
            return unsigned
        await all_outputs(services, project, release)
    return await published(services, project, existing["id"], existing["version"], created=False)


async def _bring_rest(
    services: Services,
    project: Project,
    actor: Actor,
    publication: PublicationRow,
    outputs: Sequence[StagedOutput],
    release: ReleaseRow,
    signers: Signers,
) -> Unsigned | None:
    """Paths that the release only recorded join the project, which makes it available; a publisher that
    signs is asked for what it has not signed.
    """
    with ExitStack() as files:
        paths = await gathered_paths(services, project, actor, publication, outputs, files)
        coming = await joining(services, project, paths, signers.keys, files)
        lacking = await _lacking(services, project, release, paths, signers) if signers.asked else []
        given = await services.workers.run(signers.signatures, [each.text for each in lacking])
        if given is None:
            return Unsigned(release.sequence, [each.text for each in lacking])
        now = services.clock()
        async with services.database.transaction() as connection:
            if await queries.close(connection, publication.id):
                await check_keys(connection, project.organization, signers)
                await join(services, connection, project, coming, now)
                for each in lacking:
                    await _sign(connection, project, release, each, given[each.text], signers, now)
    return None


async def _lacking(
    services: Services,
    project: Project,
    release: ReleaseRow,
    paths: Gathered,
    signers: Signers,
) -> list[_Lacking]:
    """Of the outputs that this publication brings or that are among its paths."""
    names = {key.name for key in signers.asked}
    found = []
    for row in await registry_queries.outputs(services.database, release.id):
        if (root := base_name(row)) not in paths:
            continue
        if row.statement is None:
            built = await manifest_of(services, root, paths)
            text = statement_text(project, release.version, release.sequence, row, built.digest)
            found.append(_Lacking(row, text, built))
        elif not names <= {name_of(signature) for signature in _signatures(row)}:
            found.append(_Lacking(row, row.statement, None))
    return found


async def _sign(
    connection: Connection,
    project: Project,
    release: ReleaseRow,
    lacking: _Lacking,
    given: Sequence[str],
    signers: Signers,
    now: int,
) -> None:
    row, built = lacking.row, lacking.built
    if built is None:
        held = _signatures(row)
        signatures = list(dict.fromkeys([*held, *given]))
        encoded = msgspec.json.encode(signatures).decode()
        change = (release.id, row.attribute, encoded, row.statement_signatures or "[]")
        await registry_queries.replace_statement_signatures(connection, [change])
        return
    signed = sign_statement(lacking.text, signers.keys.secret, given)
    available = msgspec.structs.replace(
        row, manifest=built.digest, statement=signed.text, statement_signatures=signed.signatures_json
    )
    counts = (built.path_count, built.nar_size)
    await registry_queries.add_manifest(connection, built.digest, project.id, built.root, counts, now)
    await registry_queries.make_available(connection, release.id, available)


def _signatures(row: OutputRow) -> list[str]:
    return msgspec.json.decode(row.statement_signatures or "[]", type=list[str])


async def published(
    services: Services, project: Project, release: str, version: str, *, created: bool
) -> Published:
    """The answer for a release that is visible."""
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
