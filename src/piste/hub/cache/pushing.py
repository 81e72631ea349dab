"""What a stock `nix copy --to` sends: a NAR first, named by the hash of its file, and then the narinfo that
tells what it is.

Both are verified like Piste's own uploads. A NAR without its narinfo is readable by nobody.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from piste.hub.access.records import Project
from piste.hub.cache import queries
from piste.hub.cache.ingest import Intake
from piste.hub.cache.keep import keep, nar_key
from piste.hub.cache.records import PathRecord
from piste.hub.cache.rules import NarFile, parse_nar_file
from piste.hub.cache.signing import new_paths
from piste.hub.errors import HubError
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.decompress import decompressor
from piste.lib.streams import gathered
from piste.nix.narinfo import NarInfo, NarInfoError, PathInfo, parse_narinfo
from piste.nix.reference_scan import KnownHashParts, ReferenceScanner

# Hash parts of the project to scan for; as in a publication.
KNOWN_LIMIT: Final = 30_000
SHOWN: Final = 10
_GZIP: Final = b"\x1f\x8b"


async def take_nar(
    services: Services, project: Project, file: NarFile, name: str, body: AsyncIterable[bytes]
) -> None:
    """Verify and keep a NAR under the file name that the client gave it."""
    compression = file.compression
    if compression is None:
        raise HubError(
            "bad-nar",
            f"The hub can't read NARs that are compressed as {file.suffix}.",
            hint="Push with ?compression=zstd at the end of the cache's address.",
        )
    async with services.workers.place(project.organization):
        if compression == "none":
            compression, body = await _looked_into(body)
        intake = Intake(services.objects.spool, compression=compression)
        await services.workers.pump(body, intake)
        nar = await services.workers.run(intake.finish)
    kept = await keep(services.objects, nar, await queries.nar(services.database, nar.nar_hash))
    now = services.clock()
    async with services.database.transaction() as connection:
        await queries.add_nars(connection, [kept], now)
        await queries.add_pushed_nar(connection, project.id, name, kept, now)


async def _looked_into(body: AsyncIterable[bytes]) -> tuple[str, AsyncIterable[bytes]]:
    """Stock clients give gzip no suffix; no NAR begins as it does."""
    pieces = aiter(gathered(body))
    first = await anext(pieces, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return ("gzip" if first.startswith(_GZIP) else "none"), whole()


async def take_narinfo(services: Services, project: Project, hash_part: str, text: str) -> None:
    """Make a path the project's; HubError says why not."""
    try:
        narinfo = parse_narinfo(text)
    except NarInfoError as error:
        raise HubError("bad-path-info", f"The narinfo is not accepted: {error}.") from error
    info = narinfo.info
    if info.path.hash_part != hash_part:
        raise HubError("bad-path-info", f"The narinfo of {info.path} was put under another address.")
    held = await queries.path_of_project(services.database, project.id, hash_part)
    if held is not None and held.nar_hash == info.nar_hash.nix32() and held.name == info.path.name:
        return
    await _check_nar(services, project, narinfo)
    await _check_references(services, project, info)
    await _add(services, project, info)


async def _check_nar(services: Services, project: Project, narinfo: NarInfo) -> None:
    """The NAR must have been put to this project; that another one has it proves nothing."""
    folder, _, name = narinfo.url.partition("/")
    file = parse_nar_file(name) if folder == "nar" else None
    if file is None:
        raise HubError("bad-path-info", f"The narinfo names no NAR of this cache: {narinfo.url[:200]}.")
    pushed = await queries.pushed_nar(services.database, project.id, name)
    if pushed is not None:
        nar_hash, nar_size = pushed["nar_hash"], pushed["nar_size"]
    else:
        own = await queries.paths_of_project_by_nar(services.database, project.id, file.nar_hash)
        sizes = [path.nar_size for path in own if path.upstream is None]
        if not sizes:
            raise HubError(
                "bad-path-info", f"{narinfo.url} was not uploaded to this project.", hint="Put the NAR first."
            )
        nar_hash, nar_size = file.nar_hash, sizes[0]
    if (nar_hash, nar_size) != (narinfo.info.nar_hash.nix32(), narinfo.info.nar_size):
        raise HubError(
            "nar-mismatch",
            f"The NAR of {narinfo.info.path} is {nar_hash} with {nar_size} bytes, not"
            f" {narinfo.info.nar_hash.nix32()} with {narinfo.info.nar_size}.",
        )


async def _check_references(services: Services, project: Project, info: PathInfo) -> None:
    others = [path for path in info.references if path != info.path]
    rows = await queries.paths_of_project(services.database, project.id, [path.hash_part for path in others])
    there = {row.base_name for row in rows}
    missing = [path.base_name for path in others if path.base_name not in there]
    if missing:
        raise HubError(
            "bad-path-info",
            f"{info.path} refers to {len(missing)} paths that this project does not have.",
            hint="Push them first; `nix copy` does so by itself.",
            context={"missing": " ".join(missing[:SHOWN])},
        )
    newest = await queries.newest_hash_parts(services.database, project.id, KNOWN_LIMIT)
    found = await _mentioned(services, info.nar_hash.nix32(), {*newest, info.path.hash_part})
    extra = sorted(found - {path.hash_part for path in info.references} - {info.path.hash_part})
    if extra:
        raise HubError(
            "undeclared-reference",
            f"The NAR of {info.path} mentions {len(extra)} known paths that the narinfo does not name.",
            context={"hash-parts": " ".join(extra[:SHOWN])},
        )


async def _mentioned(services: Services, nar_hash: str, known: set[str]) -> set[str]:
    """Which hash parts a NAR that the hub holds mentions."""
    scanner = await services.workers.run(lambda: ReferenceScanner(KnownHashParts(known)))
    plain = decompressor("zstd")

    def scan(data: bytes) -> None:
        for piece in plain.feed(data):
            scanner.feed(piece)

    async for data in gathered(services.objects.stream(nar_key(nar_hash))):
        await services.workers.run(scan, data)
    return scanner.found


async def _add(services: Services, project: Project, info: PathInfo) -> None:
    record = PathRecord.of(info)
    keys = await services.keyring.keys_of(project.organization)
    new = await services.workers.run(new_paths, [record], keys)
    async with services.database.transaction() as connection:
        if await queries.claim_paths(connection, project.organization, new):
            raise HubError(
                "path-conflict",
                f"The organization holds other content under {info.path}.",
                hint="A build that gives other bytes each time was pushed from two places; keep the first.",
            )
        await queries.add_paths(connection, project.id, new, services.clock())
        note(f"path {info.path.base_name}")
