"""One delta of NARs that the hub holds, from files into a file, within bounds of memory.

Runs in a thread of its own, and expands what it needs of the base window by window. Must never hold more than
that, whatever the sizes are: of NARs in which something is renamed, one at a time.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from piste.lib.decompress import decompressor
from piste.lib.delta import make_delta
from piste.wire.deltas import rename

_PIECE: Final = 256 * 1024


class StoppedError(Exception):
    """The hub ends."""


@dataclass(frozen=True)
class Nar:
    """A NAR as zstd in a file; in a base with what is renamed in it."""

    file: Path
    size: int
    changes: list[tuple[bytes, bytes]] = field(default_factory=list)


def write_delta(
    out: Path, bases: Sequence[Nar], targets: Sequence[Nar], *, whole: bool, stop: threading.Event
) -> int:
    """Write the delta, and give its size. `whole`: the bases are few bytes, and some are renamed.
    OSError, DecompressError or DeltaError where the files are not what was said."""
    size = 0
    base_size = sum(nar.size for nar in bases)
    if whole:
        old: Iterator[bytes] = (rename(b"".join(_plain(nar, stop)), nar.changes) for nar in bases)
    else:
        old = (piece for nar in bases for piece in _plain(nar, stop))
    reading = _Windows(old).read
    wanted = (piece for nar in targets for piece in _plain(nar, stop))
    with out.open("wb") as file:
        for piece in make_delta(reading, base_size, wanted, sum(nar.size for nar in targets)):
            file.write(piece)
            size += len(piece)
    return size


def _plain(nar: Nar, stop: threading.Event) -> Iterator[bytes]:
    plain = decompressor("zstd")
    with nar.file.open("rb") as file:
        while data := file.read(_PIECE):
            if stop.is_set():
                raise StoppedError
            yield from plain.feed(data)
    plain.finish()


class _Windows:
    """Windows of a stream, each of which begins at or after the one before."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = bytearray()
        self._start = 0

    def read(self, start: int, length: int) -> memoryview:
        passed = min(start - self._start, len(self._held))
        del self._held[:passed]
        self._start += passed
        while len(self._held) < start - self._start + length:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held += piece
            if self._start < start:
                passed = min(start - self._start, len(self._held))
                del self._held[:passed]
                self._start += passed
        # Whoever reads copies it at once, and lets go of it before the next window.
        return memoryview(self._held)[:length]
