"""Objects as files of a folder, in shards, written durably and never changed.

A file is made in the spool, which is on the same file system, and linked to its name once it is on disk;
linking never replaces, so the first content of a key stays. It must never follow a key out of its folder.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from piste.hub.storage.base import LocalFile, Location
from piste.lib.files import is_in_memory, sync_folder

PIECE: Final = 256 * 1024
_SHARED: Final = "nar/"  # the one kind of object that a proxy may be told to send
_KEY: Final = re.compile(r"[a-z]+/[a-z0-9][a-z0-9._-]*")


class LocalObjects:
    """The store of one hub, or of several processes of it on one machine."""

    def __init__(self, folder: Path, internal: str | None = None) -> None:
        """`internal`: a proxy on this machine, which is in our group, serves NARs below that address."""
        self.folder = folder
        self._internal = internal
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.spool, self._spool_lock = _own_spool(folder / "spool")

    async def put_file(self, key: str, file: Path) -> bool:
        return await asyncio.to_thread(self._put_file, key, file)

    async def put(self, key: str, data: bytes) -> bool:
        return await asyncio.to_thread(self._put, key, data)

    async def locate(self, key: str) -> Location | None:
        place = self._place(key)
        size = _size(place)
        if size is None:
            return None
        path = Path(place)
        if self._internal is None or not key.startswith(_SHARED):
            return LocalFile(path, size)
        _open_to_group(self.folder, path)
        return LocalFile(path, size, f"{self._internal}{path.relative_to(self.folder)}")

    async def size(self, key: str) -> int | None:
        return _size(self._place(key))

    async def read(self, key: str) -> bytes | None:
        def work() -> bytes | None:
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

        return await asyncio.to_thread(work)

    async def stream(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        descriptor = os.open(self._place(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            end = os.fstat(descriptor).st_size
            if stop is not None:
                end = min(end, stop)
            while start < end:
                piece = await _read_piece(descriptor, start, min(PIECE, end - start))
                if not piece:
                    raise OSError(errno.EIO, "an object became shorter while it was read")
                yield piece
                start += len(piece)
        finally:
            os.close(descriptor)

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    async def is_older(self, key: str, moment: float) -> bool:
        try:
            return self._path(key).stat().st_mtime < moment
        except FileNotFoundError:
            return False

    async def delete_if_older(self, key: str, moment: float) -> bool:
        """Remove an object that nobody has put again since `moment` (seconds since the epoch); whether it
        went."""
        return await asyncio.to_thread(self._delete_if_older, key, moment)

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(lambda: list(self._walk(prefix))):
            yield key

    def close(self) -> None:
        """Give the spool back; what is still in it was not finished."""
        shutil.rmtree(self.spool, ignore_errors=True)
        os.close(self._spool_lock)

    def _path(self, key: str) -> Path:
        return Path(self._place(key))

    def _place(self, key: str) -> str:
        """The path as text, for what is done very often: to put a Path together takes longer than to ask for
        the size of a file."""
        if not _KEY.fullmatch(key) or ".." in key:
            raise ValueError(f"not a key of an object: {key!r}")
        kind, name = key.split("/")
        return f"{self.folder}/{kind}/{name[:2]}/{name}"

    def _put(self, key: str, data: bytes) -> bool:
        descriptor, name = tempfile.mkstemp(dir=self.spool)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            return self._put_file(key, Path(name))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _put_file(self, key: str, file: Path) -> bool:
        target = self._path(key)
        _sync_file(file)
        _make_shard(self.folder, target.parent)
        while True:
            try:
                os.link(file, target)
                created = True
                break
            except FileExistsError:
                # Whoever collects garbage leaves alone what was asked for again a moment ago.
                with contextlib.suppress(FileNotFoundError):
                    os.utime(target)
                    created = False
                    break
        file.unlink()
        sync_folder(target.parent)
        return created

    def _delete_if_older(self, key: str, moment: float) -> bool:
        """Moves the file away before it looks, so that a put at the same time either counts or makes it
        anew."""
        path = self._path(key)
        aside = self.spool / secrets.token_hex(8)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        old = aside.stat().st_mtime < moment
        if not old:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()
        return old

    def _walk(self, prefix: str) -> Iterator[str]:
        kind, _, start = prefix.partition("/")
        root = self.folder / kind
        if not kind or not root.is_dir():
            return
        for shard in sorted(entry for entry in root.iterdir() if entry.is_dir()):
            for file in sorted(shard.iterdir()):
                if file.name.startswith(start):
                    yield f"{kind}/{file.name}"


async def read_file(path: Path, size: int) -> bytes:
    """A file of a few pages, which has this size; OSError if it is shorter."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = await _read_piece(descriptor, 0, size)
        while len(data) < size:
            rest = await _read_piece(descriptor, len(data), size - len(data))
            if not rest:
                raise OSError(errno.EIO, "an object became shorter while it was read")
            data += rest
    finally:
        os.close(descriptor)
    return data


async def _read_piece(descriptor: int, start: int, length: int) -> bytes:
    """From the page cache at once; from the disk in a thread, so that the event loop never waits for it."""
    piece = bytearray(length)
    try:
        count = os.preadv(descriptor, [piece], start, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        if error.errno != errno.EAGAIN and is_in_memory(os.fstat(descriptor).st_dev):
            return os.pread(descriptor, length, start)
        return await asyncio.to_thread(os.pread, descriptor, length, start)
    if count == 0:
        return b""
    return bytes(memoryview(piece)[:count])


def _size(place: str) -> int | None:
    try:
        return os.stat(place).st_size  # noqa: PTH116 - see _place
    except FileNotFoundError:
        return None


def _open_to_group(root: Path, file: Path) -> None:
    """The file may be read, and its folders passed through but not listed; each is changed once."""
    if not file.stat().st_mode & stat.S_IRGRP:
        file.chmod(0o640)
    for folder in (file.parent, file.parent.parent, root):
        if not folder.stat().st_mode & stat.S_IXGRP:
            folder.chmod(0o710)


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_shard(root: Path, shard: Path) -> None:
    if shard.is_dir():
        return
    shard.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync_folder(shard.parent)
    sync_folder(root)


def _own_spool(root: Path) -> tuple[Path, int]:
    """A folder for this process alone, held by a lock; those whose process has gone are removed."""
    root.mkdir(mode=0o700, exist_ok=True)
    for entry in root.iterdir():
        if (lock := _try_lock(entry)) is not None:
            shutil.rmtree(entry, ignore_errors=True)
            os.close(lock)
    while True:
        own = Path(tempfile.mkdtemp(dir=root))
        lock = _try_lock(own)
        # Another process that starts now may have removed the folder before it was locked.
        if lock is not None and own.exists():
            return own, lock


def _try_lock(folder: Path) -> int | None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
