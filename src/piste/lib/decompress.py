"""Decompression in small pieces: whatever comes in, at most one piece of plain bytes is in memory at a time.

Each codec yields pieces of at most PIECE bytes, reads any number of frames or members one after another,
and refuses bytes after the end that are none. Must never trust a size that a header announces.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from piste.lib.zstd import zstd

PIECE: Final = 256 * 1024
# Frames in a row that hold nothing. Writers make one or two of them (an empty file, a table of contents); an
# endless number of them would pass every limit on plain bytes.
EMPTY_FRAMES: Final = 1000
# 8 MiB of window: level 19 of a stock client. A frame that wants more is refused, since every upload holds
# its own.
ZSTD_WINDOW_LOG: Final = 23
# xz -9 has a dictionary of 64 MiB, and needs little beside it.
XZ_MEMORY: Final = 80 * 1024 * 1024

# How a stock client ends the name of a NAR that it compressed in one of these ways.
SUFFIXES: Final = {"none": "", "xz": ".xz", "bzip2": ".bz2", "gzip": ".gz", "zstd": ".zst"}


class DecompressError(ValueError):
    """The bytes are not of that compression, are damaged, or end before they should."""


class Decompressor(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Plain pieces that `data` gives; to be exhausted before the next call."""
        ...

    def finish(self) -> None:
        """Check that the bytes ended where a frame does."""
        ...


class Plain:
    """No compression."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]

    def finish(self) -> None:
        return


class _Member(Protocol):
    """What the decompressors of zstd, xz and bzip2 have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Members:
    """Frames one after another, each read by a decompressor of its own."""

    def __init__(self, make: Callable[[], _Member], failures: tuple[type[Exception], ...]) -> None:
        self._make = make
        self._failures = failures
        self._member: _Member | None = None
        self._any = False
        self._empty = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                self._member, self._any = self._make(), True
            piece = self._step(self._member, data)
            data = b""
            while True:
                if piece:
                    self._empty = 0
                    yield piece
                if self._member.eof or self._member.needs_input:
                    break
                piece = self._step(self._member, b"")
            if self._member.eof:
                data = self._member.unused_data
                self._member = None
                self._count_empty()

    def _step(self, member: _Member, data: bytes) -> bytes:
        try:
            return member.decompress(data, PIECE)
        except self._failures as error:
            raise DecompressError(str(error)) from error

    def _count_empty(self) -> None:
        self._empty += 1
        if self._empty > EMPTY_FRAMES:
            raise DecompressError(f"more than {EMPTY_FRAMES} frames in a row hold nothing")

    def finish(self) -> None:
        if self._member is not None or not self._any:
            raise DecompressError("the compressed data ends too early")


class _GzipMember:
    """zlib's object in the shape that the others have."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))
        # A full piece may mean that more is held back inside, though no input is left over.
        self.needs_input = not self._inner.unconsumed_tail and len(piece) < max_length
        return piece


def _zstd(window_log: int) -> _Member:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window_log})


def _xz() -> _Member:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)


def decompressor(compression: str, *, zstd_window_log: int = ZSTD_WINDOW_LOG) -> Decompressor:
    """One for each name in SUFFIXES; ValueError for another."""
    match compression:
        case "none":
            return Plain()
        case "zstd":
            return Members(lambda: _zstd(zstd_window_log), (zstd.ZstdError,))
        case "xz":
            return Members(_xz, (lzma.LZMAError,))
        case "bzip2":
            return Members(bz2.BZ2Decompressor, (OSError, ValueError))
        case "gzip":
            return Members(_GzipMember, (zlib.error,))
    raise ValueError(f"unknown compression {compression!r}")
