"""One delta of NARs that the hub holds, from files into a file, within bounds of memory.

Runs in a thread of its own. The base is expanded into a file without a name, and read from there window by
window: held beside zstd's own copy of the window it would be 24 MiB more. Must never hold a NAR, but for one
in which something is renamed, which is small.
"""

import os
import tempfile
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
    with tempfile.TemporaryFile(dir=out.parent) as spooled:
        for nar in bases:
            if whole:
                spooled.write(rename(b"".join(_plain(nar, stop)), nar.changes))
            else:
                spooled.writelines(_plain(nar, stop))
        spooled.flush()

        def read(start: int, length: int) -> bytes:
            return os.pread(spooled.fileno(), length, start)

        wanted = (piece for nar in targets for piece in _plain(nar, stop))
        with out.open("wb") as file:
            for piece in make_delta(read, base_size, wanted, sum(nar.size for nar in targets)):
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
