"""Step 1: the flake's folder. Its version, its address for Nix, and its tarball.

The tarball of one commit is the same on every machine, bit for bit before compression, since releases that
several machines fill compare it. Memory stays bounded whatever the size of the files.
"""

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote, urlencode

from piste.lib.errors import PisteError, UsageError
from piste.publisher import git
from piste.publisher.records import Wish
from piste.semver.version import Version, VersionError

_TOP: Final = "source"  # the one folder at the top; Nix strips it
_GZIP_LEVEL: Final = 6
_LOCAL_TIME: Final = 1  # where there is no commit to take a time from


@dataclass(frozen=True)
class Source:
    """A flake's folder, what git says of it, its address for Nix, and the version it is published as."""

    folder: Path
    checkout: git.Checkout | None
    url: str
    version: str

    @property
    def revision(self) -> str | None:
        """The commit that the source is; None where it differs from every commit."""
        return self.checkout.revision if self.checkout and not self.checkout.dirty else None

    @property
    def pure(self) -> bool:
        """Whether the address alone fixes the content: a commit, or a folder that Nix has hashed."""
        return self.checkout is None or not self.checkout.dirty


def read_source(wish: Wish) -> Source:
    """Look at the flake's folder; errors say what keeps it from being published."""
    folder = wish.folder.resolve()
    if not (folder / "flake.nix").is_file():
        raise UsageError(
            "no-flake",
            f"There is no flake.nix in {folder}.",
            hint="Give the flake's folder: `piste publish DIR --name ORG/PROJECT …`.",
        )
    checkout = git.read_checkout(folder)
    return Source(folder, checkout, _address(folder, checkout), _version(wish, checkout))


def _version(wish: Wish, checkout: git.Checkout | None) -> str:
    if wish.version is not None:
        try:
            return str(Version.parse(wish.version.removeprefix("v")))
        except VersionError as error:
            raise UsageError("bad-version", f"{error}.", hint="For example 1.4.0.") from error
    if checkout is None:
        raise UsageError(
            "no-commit",
            "A rolling version counts commits, and this folder is not in a git repository.",
            hint="Give --version, or put the flake into git.",
        )
    if checkout.dirty:
        raise PisteError(
            "dirty-tree",
            f"{checkout.root} has changes that are not committed, so it is no revision to name a rolling "
            "version after.",
            hint="Commit or undo them (`git status` lists them), or publish with --version.",
        )
    if checkout.shallow:
        raise PisteError(
            "shallow-clone",
            f"{checkout.root} is a shallow clone: its commits can't be counted.",
            hint="Run `git fetch --unshallow`; in a GitHub workflow give actions/checkout `fetch-depth: 0`.",
        )
    if len(checkout.revision) != 40:
        raise PisteError(
            "bad-revision", "Rolling versions need a repository whose commits are named by SHA-1."
        )
    return f"0.{wish.rolling_minor}.{checkout.commit_count}+rev-{checkout.revision}"


def _address(folder: Path, checkout: git.Checkout | None) -> str:
    if checkout is None:
        return "path:" + quote(str(folder))
    query = {}
    if not checkout.dirty:
        query["rev"] = checkout.revision
    if checkout.subfolder:
        query["dir"] = checkout.subfolder
    if checkout.shallow:
        query["shallow"] = "1"
    return (
        "git+file://" + quote(str(checkout.root)) + ("?" + urlencode(query, quote_via=quote) if query else "")
    )


def write_tarball(source: Source, file: BinaryIO) -> int:
    """Write the .tar.gz of the flake's folder as git has it; how many bytes it has."""
    time = source.checkout.commit_time if source.checkout else _LOCAL_TIME
    start = file.tell()
    with (
        gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in _names(source):
            _add(archive, source.folder / name, f"{_TOP}/{name}", time)
    return file.tell() - start


def _names(source: Source) -> Iterator[str]:
    if source.checkout is not None:
        yield from git.list_files(source.folder)
        return
    found = []
    for folder, folders, files in os.walk(source.folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        found += [str((Path(folder) / name).relative_to(source.folder)) for name in (*files, *links)]
    yield from sorted(found)


def _add(archive: tarfile.TarFile, path: Path, name: str, time: int) -> None:
    """One file or link, with nothing of this machine in it."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return  # deleted, and the deletion is not committed: Nix does not see it either
    entry = tarfile.TarInfo(name)
    entry.mtime = time
    if stat.S_ISLNK(status.st_mode):
        entry.type = tarfile.SYMTYPE
        entry.linkname = str(path.readlink())
        entry.mode = 0o777
        archive.addfile(entry)
    elif stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
        entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        with path.open("rb") as file:
            archive.addfile(entry, file)
    elif not stat.S_ISDIR(status.st_mode):  # a folder in the list is a submodule, which Nix leaves out too
        raise PisteError("bad-source", f"{path} is neither a file nor a link, so it can't be published.")
