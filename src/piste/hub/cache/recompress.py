"""A NAR in the compression in which a stock client pushed it.

Nix remembers for a month what it said of a path when it pushed it, and asks for that very file. The hub keeps
only zstd, so it compresses again for such a client, quickly rather than well.
"""

import bz2
import lzma
import zlib
from collections.abc import AsyncIterator
from typing import Protocol

from piste.hub.cache.keep import nar_key
from piste.hub.services import Services
from piste.lib.decompress import decompressor
from piste.lib.streams import gathered


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(compression: str) -> _Compressor:
    match compression:
        case "none":
            return _Plain()
        case "xz":
            return lzma.LZMACompressor(preset=0)
        case "bzip2":
            return bz2.BZ2Compressor(1)
        case "gzip":
            return zlib.compressobj(1, zlib.DEFLATED, 31)
    raise ValueError(f"nothing compresses as {compression!r} here")


async def recompressed(services: Services, nar_hash: str, compression: str) -> AsyncIterator[bytes]:
    """The NAR that the hub holds, in another compression, a piece at a time."""
    plain, packed = decompressor("zstd"), _compressor(compression)
    async for data in gathered(services.objects.stream(nar_key(nar_hash))):
        pieces = plain.feed(data)
        # One piece a hop: a small file may hold gigabytes of zeros, and the client may be slow.
        while (piece := await services.workers.run(next, pieces, None)) is not None:
            if out := await services.workers.run(packed.compress, piece):
                yield out
    if rest := packed.flush():
        yield rest
