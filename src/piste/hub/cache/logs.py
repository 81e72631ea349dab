"""Build logs: kept as zstd, given out as plain text. They can quote source, so they have a permission of
their own.
"""

import hashlib
import os
import tempfile
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final

from piste.hub.access.records import Actor, Permission, Project
from piste.hub.cache import queries, reading
from piste.hub.errors import HubError, not_found
from piste.hub.services import Services
from piste.lib.decompress import DecompressError, decompressor
from piste.lib.zstd import zstd
from piste.nix.store_path import StorePath, StorePathError

LOG_LIMIT: Final = 64 << 20
_ENCODINGS: Final = {
    "": "none",
    "identity": "none",
    "gzip": "gzip",
    "xz": "xz",
    "zstd": "zstd",
    "bzip2": "bzip2",
}


class _LogIntake:
    """One log on its way in."""

    def __init__(self, spool: Path, compression: str) -> None:
        self._plain = decompressor(compression)
        self._compressor = zstd.ZstdCompressor(level=3)
        self._hash = hashlib.sha256()
        self._size = 0
        descriptor, name = tempfile.mkstemp(dir=spool, suffix=".log")
        self._file = os.fdopen(descriptor, "wb")
        self.path = Path(name)

    def feed(self, data: bytes) -> None:
        try:
            for piece in self._plain.feed(data):
                self._size += len(piece)
                if self._size > LOG_LIMIT:
                    raise HubError("body-too-large", f"A build log has at most {LOG_LIMIT >> 20} MiB.")
                self._hash.update(piece)
                self._file.write(self._compressor.compress(piece))
        except (DecompressError, zlib.error) as error:
            raise HubError("bad-request", f"The log can't be decompressed: {error}.") from error

    def finish(self) -> str:
        """The object's key."""
        try:
            self._plain.finish()
            self._file.write(self._compressor.flush())
            self._file.close()
        except BaseException as error:
            self.discard()
            if isinstance(error, DecompressError):
                raise HubError("bad-request", f"The log can't be decompressed: {error}.") from error
            raise
        return f"log/{self._hash.hexdigest()}.zst"

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def checked_name(text: str) -> str:
    """The base name of a derivation; not-found for anything else."""
    try:
        path = StorePath.from_base_name(text)
    except StorePathError:
        raise not_found() from None
    return path.base_name


async def log_of(services: Services, actor: Actor, project: Project | None, name: str) -> str:
    """The object with the log of a derivation; `project` is None at the root. HubError `not-found` where
    there is none for this actor."""
    within = project.id if project is not None else ""
    found = await queries.log_objects(services.database, within, services.guard.reach(actor), name)
    readable = await reading.readable(services, actor, [row["project"] for row in found], project)
    for row in found:
        holder = readable.get(row["project"])
        if holder is not None and services.guard.may(actor, Permission.CACHE_LOG, holder):
            key: str = row["object"]
            return key
    raise not_found()


async def take_log(
    services: Services, project: Project, name: str, encoding: str, body: AsyncIterable[bytes]
) -> None:
    """Keep the log of a derivation, in place of an older one."""
    compression = _ENCODINGS.get(encoding.strip().lower())
    if compression is None:
        raise HubError("bad-request", f"The hub can't read logs with Content-Encoding {encoding[:50]}.")
    async with services.workers.place(project.organization):
        intake = _LogIntake(services.objects.spool, compression)
        await services.workers.pump(body, intake)
        key = await services.workers.run(intake.finish)
    try:
        await services.objects.put_file(key, intake.path)
    finally:
        intake.path.unlink(missing_ok=True)
    async with services.database.transaction() as connection:
        await queries.add_log(connection, project.id, name, key, services.clock())


async def plain_pieces(services: Services, key: str) -> AsyncIterator[bytes]:
    """The log as text, a piece at a time."""
    plain = decompressor("zstd")
    async for data in services.objects.stream(key):
        pieces = plain.feed(data)
        while (piece := await services.workers.run(next, pieces, None)) is not None:
            yield piece
