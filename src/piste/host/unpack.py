"""From the compressed bytes of a NAR to its own, checked against what the manifest promised as they pass.

Holds one piece at a time. Must never give out more than was promised, whatever the compressed bytes say.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from piste.lib.decompress import DecompressError, Decompressor, decompressor
from piste.lib.errors import PisteError
from piste.nix.narinfo import PathInfo

# An upstream may use zstd's highest levels, which want this much: 128 MiB, for as long as such a NAR is read.
_ZSTD_WINDOW_LOG: Final = 27


def unpack(pieces: Iterable[bytes], compression: str, info: PathInfo) -> Iterator[bytes]:
    """The bytes of the NAR; a PisteError at the latest at their end when they are not what was promised."""
    digest = hashlib.sha256()
    size = 0
    for piece in _decompressed(pieces, _reader(compression, info), info):
        size += len(piece)
        if size > info.nar_size:
            raise _corrupt(info, f"it is longer than the {info.nar_size} bytes that were promised")
        digest.update(piece)
        yield piece
    if size < info.nar_size:
        raise _corrupt(info, f"it ends after {size} of {info.nar_size} bytes")
    if digest.digest() != info.nar_hash.digest:
        raise _corrupt(info, "its hash is not the one that was promised")


def _decompressed(pieces: Iterable[bytes], reader: Decompressor, info: PathInfo) -> Iterator[bytes]:
    try:
        for piece in pieces:
            yield from reader.feed(piece)
        reader.finish()
    except DecompressError as error:
        raise _corrupt(info, f"it can't be decompressed: {error}") from error


def _reader(compression: str, info: PathInfo) -> Decompressor:
    try:
        return decompressor(compression, zstd_window_log=_ZSTD_WINDOW_LOG)
    except ValueError as error:
        raise PisteError(
            "unknown-compression",
            f"The NAR of {info.path} is compressed as {compression!r}, which this version can't read.",
        ) from error


def _corrupt(info: PathInfo, reason: str) -> PisteError:
    return PisteError(
        "nar-corrupt",
        f"The NAR of {info.path} is not what the release promises: {reason}.",
        hint="Nothing of it was kept. If it stays so, the hub's operator can look with `piste hub check"
        " --contents`.",
    )
