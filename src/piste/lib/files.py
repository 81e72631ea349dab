"""Writing files so that a crash leaves the old content or the new, and secrets stay private."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


def write_atomically(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Replace `path` by `data` durably: temporary file beside it, fsync, rename, fsync of the folder."""
    pieces = [data] if isinstance(data, bytes) else data
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_secret(path: Path, data: bytes) -> None:
    """`write_atomically` with mode 0600, in a folder that is made 0700 if it is not there yet."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, data, mode=0o600)


@contextmanager
def new_file(folder: Path) -> Iterator[Path]:
    """An empty file, 0600, that is gone at the end."""
    descriptor, name = tempfile.mkstemp(dir=folder)
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make names that were added to or removed from `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def is_in_memory(device: int) -> bool:
    """Whether a file system is one without a disk, which can't say of its pages that they are there."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == number:
            return rest.split()[0] in ("tmpfs", "ramfs")
    return False
