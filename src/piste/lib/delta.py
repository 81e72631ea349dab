"""A delta: bytes as zstd, with older bytes as the prefix. Format `piste-delta-1`.

The new bytes are cut into segments of at most 8 MiB, each a zstd frame of its own whose prefix is a window
of at most 24 MiB of the base: memory stays bounded whatever the sizes are, and a delta that was cut off is
good up to its last whole segment.

    magic       14 bytes, `piste-delta-1` and a line feed
    base        8 bytes: size of the base
    target      8 bytes: size of what comes out
    then segments, until `target` bytes came out:
      start     8 bytes: where the window of the base begins
      window    4 bytes: its length; none below 8 bytes
      length    4 bytes: what comes out
      frame     4 bytes: length of the frame that follows

Numbers are unsigned and little-endian. A delta vouches for nothing: whoever applies one has to hold what
comes out against a hash.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from piste.lib.zstd import zstd

SEGMENT: Final = 8 << 20
MARGIN: Final = 8 << 20
WINDOW: Final = SEGMENT + 2 * MARGIN
_MAGIC: Final = b"piste-delta-1\n"
_HEAD: Final = struct.Struct("<QQ")
_SEGMENT_HEAD: Final = struct.Struct("<QIII")
# Of a frame that holds SEGMENT bytes and nothing that can be compressed.
_FRAME_LIMIT: Final = SEGMENT + (1 << 20)
_WINDOW_LOG: Final = 25  # holds a window and a segment
# What is small is done better: 10 % smaller for twice the time. Beyond 9 it is 6 % for twice the time again.
_LEVEL: Final = 6
_LEVEL_SMALL: Final = 9
_SMALL: Final = 8 << 20
_SHORTEST_WINDOW: Final = 8  # what zstd takes for a prefix
_PIECE: Final = 256 * 1024

# Some bytes of the base, from a place on; a place is never before the one of the last call.
Read = Callable[[int, int], bytes | bytearray | memoryview]


class DeltaError(ValueError):
    """The bytes are no delta, are damaged, or belong to another base."""


def make_delta(read: Read, base_size: int, target: Iterable[bytes], target_size: int) -> Iterator[bytes]:
    """The delta of `target`, which are `target_size` bytes in all, in pieces."""
    yield _MAGIC + _HEAD.pack(base_size, target_size)
    at = 0
    level = _LEVEL_SMALL if target_size <= _SMALL else _LEVEL
    source = _Source(target)
    while at < target_size:
        length = min(SEGMENT, target_size - at)
        start, window = window_of(at, length, base_size, target_size)
        frame = _compress(_prefix(read, start, window), source, length, level)
        yield _SEGMENT_HEAD.pack(start, window, length, len(frame))
        yield frame
        at += length
    if source.take(1):
        raise DeltaError("the new bytes are more than was said")


def window_of(at: int, length: int, base_size: int, target_size: int) -> tuple[int, int]:
    """Which part of the base a segment of the new bytes is held against."""
    # Where the two differ in length, what was inserted or left out may stand anywhere.
    moved = at * base_size // target_size if base_size > WINDOW else at
    start = max(0, min(moved - MARGIN, base_size - WINDOW))
    window = min(base_size - start, WINDOW)
    return (start, window) if window >= _SHORTEST_WINDOW else (0, 0)


def apply_delta(read: Read, base_size: int, delta: Iterable[bytes], target_size: int) -> Iterator[bytes]:
    """What the delta makes of the base, in pieces of at most 256 KiB. DeltaError as soon as it can't be: also
    after pieces came out, so hold them against their hash before they count.
    """
    source = _Source(delta)
    head = source.take(len(_MAGIC) + _HEAD.size)
    if head != _MAGIC + _HEAD.pack(base_size, target_size):
        raise DeltaError("it is not a delta of this base for these bytes")
    at = last = 0
    while at < target_size:
        fields = source.take(_SEGMENT_HEAD.size)
        if len(fields) != _SEGMENT_HEAD.size:
            raise DeltaError("the delta is cut off")
        start, window, length, size = _SEGMENT_HEAD.unpack(fields)
        if (
            not 0 < length <= min(SEGMENT, target_size - at)
            or window > WINDOW
            or not last <= start <= base_size - window
            or size > _FRAME_LIMIT
        ):
            raise DeltaError("a segment of the delta can't be right")
        yield from _expand(read, start, window, length, source, size)
        at, last = at + length, start
    if source.take(1):
        raise DeltaError("something follows after the end of the delta")


def _prefix(read: Read, start: int, window: int) -> tuple[zstd.ZstdDict, int] | None:
    if not window:
        return None
    data = read(start, window)
    if len(data) != window:
        raise DeltaError("the base is shorter than was said")
    return zstd.ZstdDict(data, is_raw=True).as_prefix


def _compress(prefix: tuple[zstd.ZstdDict, int] | None, source: "_Source", length: int, level: int) -> bytes:
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: level,
        parameter.window_log: _WINDOW_LOG,
        # Without it a prefix is hardly looked at; at 32 it finds 3 % more than at 64.
        parameter.enable_long_distance_matching: 1,
        parameter.ldm_min_match: 32,
        parameter.content_size_flag: 1,
        parameter.checksum_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=prefix)
    compressor.set_pledged_input_size(length)
    out = []
    while length:
        piece = source.some(min(length, _PIECE))
        if not piece:
            raise DeltaError("the new bytes are fewer than was said")
        out.append(compressor.compress(piece))
        length -= len(piece)
    out.append(compressor.flush())
    return b"".join(out)


def _expand(
    read: Read, start: int, window: int, length: int, source: "_Source", size: int
) -> Iterator[bytes]:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    expander = zstd.ZstdDecompressor(_prefix(read, start, window), options)
    while not expander.eof:
        data = b""
        if expander.needs_input:
            data = source.some(min(size, _PIECE))
            if not data:
                raise DeltaError("the delta is cut off")
            size -= len(data)
        try:
            piece = expander.decompress(data, _PIECE)
        except zstd.ZstdError as error:
            raise DeltaError(f"the delta can't be expanded: {error}") from error
        length -= len(piece)
        if length < 0:
            break
        if piece:
            yield piece
    if length or size or expander.unused_data:
        raise DeltaError("a segment of the delta is not as long as was said")


class _Source:
    """Pieces of any size, taken in other sizes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def some(self, most: int) -> bytes:
        """At least one byte and at most `most`; nothing at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken

    def take(self, count: int) -> bytes:
        """Exactly as many, or all that are left."""
        parts = []
        while count and (part := self.some(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
