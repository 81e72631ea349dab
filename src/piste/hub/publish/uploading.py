"""NARs and the source on their way in. What was verified stays; what was not leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from typing import Final

from piste.hub.access.records import Project
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.ingest import Ingested
from piste.hub.cache.keep import KeptNar, keep
from piste.hub.errors import HubError
from piste.hub.publish import parts, queries, rules
from piste.hub.publish.frames import Bundle
from piste.hub.publish.records import Announced, PublicationRow, StagedPath
from piste.hub.publish.source import Source, SourceIntake
from piste.hub.registry.records import source_key
from piste.hub.services import Services
from piste.lib.spooled import PAGE
from piste.lib.streams import gathered
from piste.nix.reference_scan import KnownHashParts
from piste.wire.publication import UploadedNars

# Hash parts to scan for beside those of the publication: a table of 30,000 takes some 30 MB for one upload.
KNOWN_LIMIT: Final = 30_000


class _Declared:
    """The paths that a publication has declared, by their NARs: of each no more than its hash part is held,
    since there may be a hundred thousand.
    """

    def __init__(self, services: Services, publication: PublicationRow) -> None:
        self._services = services
        self._publication = publication
        self._parts: dict[str, tuple[str, ...]] = {}
        self.sizes: dict[str, int] = {}

    async def load(self) -> None:
        async for rows in queries.staged_nars(self._services.database, self._publication.id):
            for row in rows:
                nar_hash = row["nar_hash"]
                self._parts[nar_hash] = (*self._parts.get(nar_hash, ()), row["hash_part"])
                self.sizes[nar_hash] = row["nar_size"]

    @property
    def hash_parts(self) -> list[str]:
        return [part for parts in self._parts.values() for part in parts]

    async def of(self, nar_hashes: Collection[str]) -> AsyncIterator[list[StagedPath]]:
        """The paths with these NARs by hash part, some at a time, as they are declared now."""
        parts = sorted(part for nar_hash in nar_hashes for part in self._parts.get(nar_hash, ()))
        for start in range(0, len(parts), PAGE):
            rows = await queries.staged_rows_of(
                self._services.database, self._publication.id, parts[start : start + PAGE]
            )
            paths = await self._services.workers.run(queries.staged_paths, rows)
            yield [path for path in paths if path.nar_hash in nar_hashes]


class _Upload:
    """One request's NARs, kept as they are found right."""

    def __init__(self, services: Services, publication: PublicationRow, declared: _Declared) -> None:
        self._services = services
        self._publication = publication
        self._declared = declared
        self.accepted = self.nar_bytes = self.file_bytes = 0

    async def keep_ready(self, bundle: Bundle) -> None:
        """Keep what the bundle has found right so far; a NAR that mentions what it may not is refused after
        that.
        """
        if not bundle.ready:
            return
        refused = await self._refused({nar.nar_hash: nar.found for nar in bundle.ready})
        ready, bundle.ready = bundle.ready, []
        for nar in ready:
            if nar.nar_hash in refused:
                nar.file.unlink(missing_ok=True)
        if right := [nar for nar in ready if nar.nar_hash not in refused]:
            await self._commit(right)
        for error in refused.values():
            raise error

    async def _refused(self, found: Mapping[str, frozenset[str]]) -> dict[str, HubError]:
        """The NARs that mention what their paths do not declare; given with all that they mention."""
        refused: dict[str, HubError] = {}
        async for paths in self._declared.of(found):
            for path in paths:
                if extra := sorted(rules.undeclared(path, found[path.nar_hash])):
                    refused.setdefault(path.nar_hash, _undeclared_reference(path, extra))
        return refused

    async def _keep(self, nar: Ingested) -> KeptNar:
        described = await cache_queries.nar(self._services.database, nar.nar_hash)
        return await keep(self._services.objects, nar, described)

    async def _commit(self, nars: Sequence[Ingested]) -> None:
        results = await asyncio.gather(*(self._keep(nar) for nar in nars), return_exceptions=True)
        kept = [result for result in results if isinstance(result, KeptNar)]
        sizes = {nar.nar_hash: nar.nar_size for nar in kept}
        async with self._services.database.transaction() as connection:
            await cache_queries.add_nars(connection, kept, self._services.clock())
            async for paths in self._declared.of(sizes):
                # A path whose declaration gives the same hash another size is not what was verified.
                right = [path for path in paths if path.nar_size == sizes[path.nar_hash]]
                await queries.mark_verified(connection, self._publication.id, right)
        self.accepted += len(kept)
        self.nar_bytes += sum(nar.nar_size for nar in kept)
        # What was sent, whatever file is kept: that of somebody else, perhaps.
        self.file_bytes += sum(nar.file_size for nar in nars if nar.nar_hash in sizes)
        for result in results:
            if isinstance(result, BaseException):
                raise result


def _undeclared_reference(path: StagedPath, extra: Sequence[str]) -> HubError:
    return HubError(
        "undeclared-reference",
        f"The NAR of {path.base_name} mentions {len(extra)} known paths that are not declared.",
        hint="Declare all references of a path, as `nix path-info --json` gives them.",
        context={"hash-parts": " ".join(extra[: rules.SHOWN_MISSING])},
    )


async def take_nars(
    services: Services, project: Project, publication: PublicationRow, body: AsyncIterable[bytes]
) -> UploadedNars:
    """The NARs of one request body; those before an error stay."""
    async with services.workers.place(project.organization):
        declared = _Declared(services, publication)
        await declared.load()
        known = await services.workers.run(
            KnownHashParts, await _known(services, project, declared.hash_parts)
        )
        upload = _Upload(services, publication, declared)
        await _take_bundle(services, body, Bundle(services.objects.spool, declared.sizes, known), upload)
    return UploadedNars(upload.accepted, upload.nar_bytes, upload.file_bytes)


async def _take_bundle(
    services: Services, body: AsyncIterable[bytes], bundle: Bundle, upload: _Upload
) -> None:
    try:
        async for data in gathered(body):
            try:
                await services.workers.run(bundle.feed, data)
            finally:
                await upload.keep_ready(bundle)
        await services.workers.run(bundle.finish)
    finally:
        await services.workers.run(bundle.discard)


async def take_nars_in_parts(
    services: Services, project: Project, publication: PublicationRow, upload: str, count: str
) -> UploadedNars:
    """The NARs of an upload whose parts have all come; nothing where it was taken before and its answer was
    lost.
    """
    if await parts.was_taken(services, publication, upload, count):
        return UploadedNars(0, 0, 0)
    answer = await take_nars(
        services, project, publication, parts.whole_of(services, publication, upload, count)
    )
    await parts.forget(services, publication, upload, count)
    return answer


async def _known(services: Services, project: Project, staged: Sequence[str]) -> set[str]:
    """All that this publication declares, and the newest that the project has, as far as they fit."""
    room = max(0, KNOWN_LIMIT - len(staged))
    return {*staged, *await cache_queries.newest_hash_parts(services.database, project.id, room)}


async def take_source(
    services: Services,
    project: Project,
    publication: PublicationRow,
    body: AsyncIterable[bytes],
    *,
    announced: Announced | None = None,
    address: bytes | None = None,
) -> Source:
    """The source tarball of a publication; `address` (a hash) is the upload address that it takes up."""
    async with services.workers.place(project.organization):
        intake = SourceIntake(services.objects.spool, announced)
        await services.workers.pump(body, intake)
        source = await services.workers.run(intake.finish)
    try:
        await services.objects.put_file(source_key(source.digest), source.file)
    finally:
        source.file.unlink(missing_ok=True)
    # The object that is there counts: the same archive may have come before, packed in another way.
    size = await services.objects.size(source_key(source.digest))
    async with services.database.transaction() as connection:
        taken = await queries.set_source(
            connection, publication.id, [source.digest, size, source.readme, source.license]
        )
        if address is not None and not await queries.use_upload_address(
            connection, address, services.clock()
        ):
            raise upload_address_invalid()
    if not taken:
        raise HubError(
            "content-differs",
            "This publication has another source already, or was finished meanwhile.",
            hint="Machines that fill one release publish the same commit.",
        )
    return source


def upload_address_invalid() -> HubError:
    """One answer, whether there never was such an address or its time is over."""
    return HubError(
        "upload-address-invalid",
        "This upload address is unknown, was used, or has expired.",
        hint="Stage the release again: each address takes one upload, for minutes.",
    )
