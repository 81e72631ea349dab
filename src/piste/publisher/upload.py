"""Step 6: NARs out of the store, compressed, to the hub: small ones bundled, several requests at once.

Each NAR passes through memory in pieces: store → zstd → a file without a name in TMPDIR, since its
compressed length must be known before its first byte is sent → hub.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Final

from piste.client.transfer import open_session, upload_nars
from piste.lib.zstd import zstd
from piste.nix.narinfo import PathInfo
from piste.nixcmd.daemon import Daemon, damaged
from piste.nixcmd.store import Store
from piste.publisher.records import Progress

# Level 3 packs faster than a gigabit goes out; 9 saves a tenth and takes five times as long.
_LEVEL: Final = 3
_BUNDLE: Final = 16 << 20  # bytes of NARs in one request; a larger NAR goes alone
_BUNDLE_COUNT: Final = 1000  # NARs in one request
_HEADER: Final = 52 + 8  # nix32 of the NAR's hash, length of the compressed bytes


async def upload(
    store: Store,
    url: str,
    headers: dict[str, str],
    infos: Sequence[PathInfo],
    progress: Progress,
    *,
    connections: int,
) -> int:
    """Upload the NARs of `infos` to a publication's address; how many compressed bytes went out."""
    bundles = iter(plan_bundles(infos))
    sent = 0

    async def worker() -> None:
        nonlocal sent
        # A daemon belongs to one thread at a time, so each worker has its own of both.
        with ThreadPoolExecutor(1) as thread, Daemon(store) as daemon:
            loop = asyncio.get_running_loop()
            for bundle in bundles:
                with tempfile.TemporaryFile() as file:
                    size = await loop.run_in_executor(thread, _spool, daemon, bundle, file)
                    tally = _Tally(progress, sum(info.nar_size for info in bundle), size)
                    await upload_nars(session, url, file, size, headers=headers, progress=tally.advance)
                    tally.done(len(bundle))
                    sent += size

    secure = url.startswith("https:")
    async with open_session(connections, secure=secure) as session, asyncio.TaskGroup() as workers:
        for _ in range(min(connections, len(infos))):
            workers.create_task(worker())
    return sent


def plan_bundles(infos: Sequence[PathInfo]) -> list[list[PathInfo]]:
    """What goes into one request each: the largest first, so that no large one is left for the end."""
    bundles: list[list[PathInfo]] = []
    filled = _BUNDLE
    for info in sorted(infos, key=lambda info: (-info.nar_size, info.path)):
        if filled + info.nar_size > _BUNDLE or len(bundles[-1]) >= _BUNDLE_COUNT:
            bundles.append([])
            filled = 0
        bundles[-1].append(info)
        filled += info.nar_size
    return bundles


def _spool(daemon: Daemon, bundle: Sequence[PathInfo], file: BinaryIO) -> int:
    """Write the framed NARs of a bundle; how many bytes they take."""
    for info in bundle:
        start = file.tell()
        file.write(bytes(_HEADER))
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.compression_level: _LEVEL})
        compressor.set_pledged_input_size(info.nar_size)
        for piece in _checked(info, daemon.nar_from_path(info.path)):
            file.write(compressor.compress(piece))
        file.write(compressor.flush())
        end = file.tell()
        file.seek(start)
        file.write(info.nar_hash.base32.encode() + (end - start - _HEADER).to_bytes(8, "little"))
        file.seek(end)
    file.flush()
    return file.tell()


def _checked(info: PathInfo, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a NAR, as long as they are what the store says of it: the hub would say so too, but not
    which path is meant and what to do.
    """
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        if size > info.nar_size:
            raise damaged(info.path)
        yield piece
    if (size, digest.digest()) != (info.nar_size, info.nar_hash.digest):
        raise damaged(info.path)


class _Tally:
    """Progress of one request, told in bytes of NARs."""

    def __init__(self, progress: Progress, nar_bytes: int, file_bytes: int) -> None:
        self._progress = progress
        self._nar_bytes = nar_bytes
        self._file_bytes = file_bytes
        self._sent = 0
        self._told = 0

    async def advance(self, count: int) -> None:
        self._sent += count
        reached = self._nar_bytes * self._sent // self._file_bytes
        self._progress.advance(0, reached - self._told)
        self._told = reached

    def done(self, paths: int) -> None:
        self._progress.advance(paths, self._nar_bytes - self._told)
        self._told = self._nar_bytes
