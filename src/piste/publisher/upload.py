"""Step 6: NARs out of the store, compressed, to the hub: small ones bundled, several requests at once.

Each NAR passes through memory in pieces: store → zstd → a file without a name in TMPDIR, since its
compressed length must be known before its first byte is sent → hub. Threads rather than tasks: what they do
lets go of the interpreter, and starting an event loop's HTTP client takes longer than a small push.
"""

import hashlib
import io
import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from piste.client.hub import HubConnection
from piste.lib.retry import Backoff
from piste.lib.zstd import zstd
from piste.nix.narinfo import PathInfo
from piste.nixcmd.daemon import Daemon, damaged
from piste.nixcmd.store import Store
from piste.publisher.records import Progress

# Level 3 packs faster than a gigabit goes out; 9 saves a tenth and takes five times as long.
_LEVEL: Final = 3
_BUNDLE: Final = 16 << 20  # bytes of NARs in one request, at most; a larger NAR goes alone
_LEAST: Final = 2 << 20  # not less, where there is more: a request costs some milliseconds and a round trip
_BUNDLE_COUNT: Final = 1000  # NARs in one request
_HEADER: Final = 52 + 8  # nix32 of the NAR's hash, length of the compressed bytes
# Half a minute in all, which a hub needs that is started anew; each request may be repeated.
_PATIENCE: Final = Backoff(attempts=10)
_TIMEOUT: Final = 120.0  # the hub lets an upload wait for a place for a minute
_PART: Final = 16 << 20  # bytes that a broken connection costs at most …
_WHOLE: Final = 64 << 20  # … above this; what is smaller is verified while it arrives
_VERIFIED: Final = 20e6  # bytes a second, at which a hub at least looks through what came in parts


@dataclass(frozen=True)
class Place:
    """Where NARs go: a hub, and raw segments of the address of a publication or a push; how much of them at
    once.
    """

    hub: HubConnection
    path: tuple[str, ...]  # without what is sent: `nars`, `parts`
    part: int = _PART
    whole: int = _WHOLE


def upload(
    place: Place, daemon: Daemon, infos: Sequence[PathInfo], progress: Progress, *, connections: int
) -> int:
    """Upload the NARs of `infos`; how many compressed bytes went out. `daemon` does nothing else
    meanwhile.
    """
    total = sum(info.nar_size for info in infos)
    workers = max(1, min(connections, len(infos), total // _LEAST))
    each = max(_LEAST, min(_BUNDLE, total // (2 * workers)))
    work = _Work(place, daemon.store, progress, iter(plan_bundles(infos, each)))
    if workers == 1:
        work.run(daemon)
    else:
        with ThreadPoolExecutor(workers) as threads:
            running = [threads.submit(work.run, daemon if number == 0 else None) for number in range(workers)]
            try:
                wait(running)
            except BaseException as error:
                work.fail(error)
                raise
    if work.failure is not None:
        raise work.failure
    return work.sent


class _Work:
    """What the workers share."""

    def __init__(
        self, place: Place, store: Store, progress: Progress, bundles: Iterator[list[PathInfo]]
    ) -> None:
        self._place = place
        self._store = store
        self._progress = progress
        self._bundles = bundles
        self._lock = threading.Lock()
        self.sent = 0
        self.failure: BaseException | None = None

    def run(self, daemon: Daemon | None) -> None:
        """Take bundles until there are none, or one of the workers has failed."""
        try:
            with ExitStack() as stack:
                hub = stack.enter_context(self._place.hub.another(_TIMEOUT, _PATIENCE))
                while (bundle := self._next()) is not None:
                    if daemon is None:  # one belongs to one thread at a time
                        daemon = stack.enter_context(Daemon(self._store))
                    self._send(hub, daemon, bundle)
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """The first failure is the cause; the workers stop because of it."""
        with self._lock:
            self.failure = self.failure or error

    def _next(self) -> list[PathInfo] | None:
        with self._lock:
            return None if self.failure is not None else next(self._bundles, None)

    def _send(self, hub: HubConnection, daemon: Daemon, bundle: Sequence[PathInfo]) -> None:
        with tempfile.TemporaryFile() as file:
            size = _spool(daemon, bundle, file)
            tally = _Tally(self._progress, self._lock, sum(info.nar_size for info in bundle), size)
            if size <= self._place.whole:
                # Safe to repeat: a NAR that was verified stays so.
                self._put(hub, "POST", ("nars",), _Watched(file, tally, 0, size))
            else:
                self._send_in_parts(hub, file, size, tally)
            tally.done(len(bundle))
            with self._lock:
                self.sent += size

    def _send_in_parts(self, hub: HubConnection, file: BinaryIO, size: int, tally: "_Tally") -> None:
        name, step = secrets.token_hex(8), self._place.part
        starts = range(0, size, step)
        for number, start in enumerate(starts):
            body = _Watched(file, tally, start, min(step, size - start))
            self._put(hub, "PUT", ("parts", name, str(number)), body)
        query = {"upload": name, "parts": str(len(starts))}
        with hub.another(_TIMEOUT + size / _VERIFIED, _PATIENCE) as patient:
            patient.request("POST", (*self._place.path, "nars"), b"", query=query, repeatable=True)

    def _put(self, hub: HubConnection, method: str, path: tuple[str, ...], body: "_Watched") -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(body.size)}
        hub.request(
            method, (*self._place.path, *path), cast(BinaryIO, body), headers=headers, repeatable=True
        )


def plan_bundles(infos: Sequence[PathInfo], each: int = _BUNDLE) -> list[list[PathInfo]]:
    """What goes into one request each: the largest first, so that no large one is left for the end."""
    bundles: list[list[PathInfo]] = []
    filled = each
    for info in sorted(infos, key=lambda info: (-info.nar_size, info.path)):
        if filled + info.nar_size > each or len(bundles[-1]) >= _BUNDLE_COUNT:
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
    size = file.tell()
    file.seek(0)
    return size


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


class _Watched(io.RawIOBase):
    """A stretch of a file as a body that tells how far it has been sent; sent again, it takes that back."""

    def __init__(self, file: BinaryIO, tally: "_Tally", start: int, size: int) -> None:
        self._file = file
        self._tally = tally
        self._start = start
        self._at = start
        self.size = size
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        rest = self._start + self.size - self._at
        data = self._file.read(rest if size < 0 else min(size, rest))
        self._at += len(data)
        self._tally.reached(self._at)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """To its beginning is all that is ever asked for."""
        self._at = self._file.seek(self._start + offset)
        self._tally.reached(self._at)
        return offset


class _Tally:
    """Progress of one request, told in bytes of NARs."""

    def __init__(self, progress: Progress, lock: threading.Lock, nar_bytes: int, file_bytes: int) -> None:
        self._progress = progress
        self._lock = lock
        self._nar_bytes = nar_bytes
        self._file_bytes = file_bytes
        self._told = 0

    def reached(self, place: int) -> None:
        """So far it has been sent."""
        self._tell(0, self._nar_bytes * place // self._file_bytes)

    def done(self, paths: int) -> None:
        self._tell(paths, self._nar_bytes)

    def _tell(self, paths: int, reached: int) -> None:
        with self._lock:
            self._progress.advance(paths, reached - self._told)
        self._told = reached
