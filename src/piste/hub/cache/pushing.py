"""What stock clients push. `nix copy --to` sends a NAR first, named by the hash of its file, and then the
narinfo that tells what it is; others say what it is and then send it.

All of it is verified like Piste's own uploads. A NAR without its narinfo is readable by nobody.
"""

from collections.abc import AsyncIterable, AsyncIterator
from collections.abc import Set as AbstractSet
from typing import Final

from piste.hub.access.records import Project
from piste.hub.cache import queries
from piste.hub.cache.ingest import Ingested, Intake
from piste.hub.cache.keep import KeptNar, keep, nar_key
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
# So long an upload waits for its place: clients that send five at once do not come back when refused.
LONG_PATIENCE: Final = 600.0
_MAGIC: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
}


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


async def take_path(
    services: Services, project: Project, info: PathInfo, body: AsyncIterable[bytes]
) -> tuple[KeptNar, bool]:
    """Make a path the project's, with its NAR, in whatever compression it comes; the file that is kept, and
    whether the path is new to the project. What it refers to may come later.
    """
    newest = await queries.newest_hash_parts(services.database, project.id, KNOWN_LIMIT)
    parts = {*newest, info.path.hash_part, *(path.hash_part for path in info.references)}
    async with services.workers.place(project.organization, patience=LONG_PATIENCE):
        compression, body = await _looked_into(body)
        known = await services.workers.run(KnownHashParts, parts)
        intake = Intake(services.objects.spool, compression=compression, limit=info.nar_size, known=known)
        await services.workers.pump(body, intake)
        nar = await services.workers.run(intake.finish)
    try:
        _check_as_said(info, nar)
    except HubError:
        nar.file.unlink(missing_ok=True)
        raise
    kept = await keep(services.objects, nar, await queries.nar(services.database, nar.nar_hash))
    held = await queries.path_of_project(services.database, project.id, info.path.hash_part)
    is_new = held is None or (held.nar_hash, held.name) != (nar.nar_hash, info.path.name)
    await _add(services, project, info, kept)
    return kept, is_new


def _check_as_said(info: PathInfo, nar: Ingested) -> None:
    if (nar.nar_hash, nar.nar_size) != (info.nar_hash.nix32(), info.nar_size):
        raise HubError(
            "nar-mismatch",
            f"The NAR of {info.path} is {nar.nar_hash} with {nar.nar_size} bytes, not"
            f" {info.nar_hash.nix32()} with {info.nar_size}.",
        )
    _check_mentioned(info, nar.found)


async def _looked_into(body: AsyncIterable[bytes]) -> tuple[str, AsyncIterable[bytes]]:
    """How a body is compressed whose name does not tell; no NAR begins as these do."""
    pieces = aiter(gathered(body))
    first = await anext(pieces, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return next((name for magic, name in _MAGIC.items() if first.startswith(magic)), "none"), whole()


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
    _check_mentioned(info, found)


def _check_mentioned(info: PathInfo, found: AbstractSet[str]) -> None:
    """That a NAR mentions no known path that isn't named as a reference."""
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


async def _add(services: Services, project: Project, info: PathInfo, kept: KeptNar | None = None) -> None:
    """With `kept` the row of its NAR is written too."""
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
        if kept is not None:
            await queries.add_nars(connection, [kept], services.clock())
        await queries.add_paths(connection, project.id, new, services.clock())
        note(f"path {info.path.base_name}")
