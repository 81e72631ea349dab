"""Where downloads wait for the import, on the disk, so that a fetch that was killed goes on where it was.

A file begins with a line that names what it holds; what follows is what came, byte by byte. Nothing in it is
believed: a NAR that was taken up from here is checked like any other. One fetch at a time has the folder; a
second one gets a folder that ends with it. Must never leave more behind than `ROOM` allows and, of one NAR
that is larger than that, what had come of it.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from piste.host.bundles import Item
from piste.host.place import Host

ROOM: Final = 256 << 20  # what may lie here
_PLENTY: Final = 1 << 30  # bytes that a disk has left where more than that may lie here
_FORMAT: Final = b"piste-spool-1 "
_HEAD: Final = 16 << 10  # which nearly all first lines fit into
_HEAD_LIMIT: Final = 1 << 20
_PIECE: Final = 256 * 1024
_READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class _Slice(msgspec.Struct, array_like=True, frozen=True):
    key: str
    start: int  # within the file that the key names
    size: int


class SpoolFile:
    """One file: one thread writes it, another reads what is there already. One that was left before is opened
    when it is read."""

    def __init__(self, path: Path, descriptor: int, offset: int, held: int = 0) -> None:
        self._path = path
        self._descriptor = descriptor
        self._offset = offset  # of the contents
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self.written = held

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[
                os.pwrite(self._descriptor, view, self._offset + self.written + len(data) - len(view)) :
            ]
        with self._changed:
            self.written += len(data)
            self._changed.notify()

    def end(self, error: BaseException | None) -> None:
        """Nothing more comes, and why."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def pieces(self, start: int, size: int | None) -> Iterator[bytes]:
        """What stands from `start` on, as it comes; the error that it ended with where that is too little."""
        end = None if size is None else start + size
        while start != end:
            with self._changed:
                while self.written <= start and not self._ended:
                    self._changed.wait()
                there = self.written if end is None else min(self.written, end)
            if start >= there:
                if self._error is not None:
                    raise self._error
                return
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, _READING)
            piece = os.pread(self._descriptor, min(_PIECE, there - start), self._offset + start)
            if not piece:
                return  # somebody has cut the file; that the NAR is too short is told where it is checked
            start += len(piece)
            yield piece

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True)
class Left:
    """What an earlier fetch left of one item: its first `size` bytes, in a file from `offset` on."""

    file: SpoolFile
    offset: int
    size: int


class Spool:
    """The folder, for one fetch. Use it in a `with` block; it is kept only where `keep` was set."""

    def __init__(self, folder: Path | None) -> None:
        self.keep = True
        self._lock = -1
        self._own = folder is None or not self._take(folder)
        self._folder = _passing_folder() if self._own or folder is None else folder
        self._left: list[SpoolFile] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._left:
            file.close()
        if self._own:
            shutil.rmtree(self._folder, ignore_errors=True)
        elif not self.keep:
            self.clear()
        if self._lock >= 0:
            os.close(self._lock)

    def clear(self) -> None:
        """Remove all that is there."""
        for path in self._folder.glob("*.part"):
            path.unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """Remove what lies here of a file that is not what was promised, and what came together with it."""
        for path in self._folder.glob("*.part"):
            found = _find(path)
            if found is not None and any(one.key == key for one in found[1]):
                path.unlink(missing_ok=True)

    def size(self) -> int:
        """How many bytes lie here."""
        return sum(path.stat().st_size for path in self._folder.glob("*.part"))

    def has_plenty(self) -> bool:
        """Whether the disk has so much space that more than `ROOM` may lie here."""
        usage = os.statvfs(self._folder)
        return usage.f_bavail * usage.f_frsize >= _PLENTY

    def left(self, wanted: Collection[str]) -> dict[tuple[str, int], Left]:
        """What earlier fetches left of these keys, by key and start. What can't be used is removed, and so is
        what is not wanted beyond `ROOM`."""
        found: dict[tuple[str, int], Left] = {}
        unwanted = 0
        for path in sorted(self._folder.glob("*.part")):
            if (there := _find(path)) is None:
                path.unlink(missing_ok=True)
                continue
            file, slices = there
            if not any(one.key in wanted for one in slices):
                unwanted += file.written
                if unwanted > ROOM:
                    path.unlink(missing_ok=True)
                continue
            self._left.append(file)
            at = 0
            for one in slices:
                size = min(one.size, file.written - at)
                known = found.get((one.key, one.start))
                if size > 0 and (known is None or known.size < size):
                    found[one.key, one.start] = Left(file, at, size)
                at += one.size
        return found

    def create(self, items: Sequence[Item]) -> SpoolFile:
        """A file for what comes of these items, one after another."""
        path = self._folder / f"{secrets.token_hex(8)}.part"
        slices = [_Slice(item.key or "", item.start, item.size or 0) for item in items]
        head = _FORMAT + msgspec.json.encode(slices) + b"\n"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(descriptor, head)
        if any(item.key is None or item.size is None for item in items):
            path.unlink()  # nothing could tell later what it is
        return SpoolFile(path, descriptor, len(head))

    def _take(self, folder: Path) -> bool:
        """Whether the folder is there, ours alone, and nobody else's now."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                return False
            folder.chmod(0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
            return False
        return True


def _passing_folder() -> Path:
    """One that ends with the fetch, on a disk where one can be had."""
    disk = "/var/tmp"  # noqa: S108 - the folder's name is made up
    chosen = None if "TMPDIR" in os.environ or not os.access(disk, os.W_OK) else disk
    return Path(tempfile.mkdtemp(prefix="piste-", dir=chosen))


def spool_folder(host: Host) -> Path | None:
    """Where the host keeps what it has downloaded: on a disk, since `/tmp` is memory on many machines."""
    if chosen := os.environ.get("TMPDIR"):
        return Path(chosen) / f"piste-fetch-{os.geteuid()}"
    with contextlib.suppress(OSError):
        return host.cache_folder() / "fetch"
    return None


def _find(path: Path) -> tuple[SpoolFile, list[_Slice]] | None:
    """A file that was left, and what it says that it holds; None for one that says nothing."""
    try:
        descriptor = os.open(path, _READING)
    except OSError:
        return None
    try:
        head = os.pread(descriptor, _HEAD, 0)
        if b"\n" not in head:
            head = os.pread(descriptor, _HEAD_LIMIT, 0)
        line = head[: head.find(b"\n") + 1]
        if not line.startswith(_FORMAT):
            return None
        slices = msgspec.json.decode(line[len(_FORMAT) :], type=list[_Slice])
        held = os.fstat(descriptor).st_size - len(line)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
    file = SpoolFile(path, -1, len(line), held)
    file.end(None)
    return file, slices
