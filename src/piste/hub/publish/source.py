"""The source of a release: a .tar.gz that streams to the spool while it is checked. It is never unpacked.

Only flake.nix, flake.lock, the README and the licence are looked into. Runs in a thread; what is refused
leaves no file.
"""

import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from piste.hub.errors import HubError
from piste.hub.publish.records import Announced
from piste.hub.publish.rules import license_of
from piste.hub.publish.tar import Entry, TarError, TarReader

PIECE: Final = 256 * 1024
PLAIN_LIMIT: Final = 2 << 30
# DEFLATE reaches 1032:1 on zeros; a source is text. Small archives may have what they like.
RATIO_LIMIT: Final = 200
RATIO_FREE: Final = 16 << 20

FLAKE_LIMIT: Final = 1 << 20
LOCK_LIMIT: Final = 8 << 20
TEXT_LIMIT: Final = 1 << 20
LINKS_LIMIT: Final = 8 << 20  # of the names of links, which are all remembered
_READMES: Final = ("readme.md", "readme", "readme.txt", "readme.rst")
_LICENSES: Final = ("license", "licence", "copying", "license.md", "licence.md", "license.txt", "copying.txt")


@dataclass(frozen=True)
class Source:
    """A source that was accepted and lies in the spool."""

    digest: str  # hex SHA-256 of the tar inside, whatever the compression made of it
    size: int  # of the .tar.gz
    file: Path
    readme: str | None
    license: str | None


class _Lock(msgspec.Struct, frozen=True):
    """What a lock file has at least; the rest is not kept: it could take 20 times its size."""

    version: msgspec.Raw


class SourceIntake:
    """One tarball on its way in. Its flake.nix lies at the top, also where the flake has a folder of a
    repository for itself: publishers pack that folder alone. `announced` is what its bytes have to be.
    """

    def __init__(self, spool: Path, announced: Announced | None = None) -> None:
        self._announced = announced
        self._packed_hash = hashlib.sha256()
        self._inflate = zlib.decompressobj(wbits=31)
        self._tar = TarReader(self._visit, self._collect)
        self._hash = hashlib.sha256()
        self._size = self._plain = 0
        self._top: str | None = None
        self._links: set[str] = set()
        self._link_bytes = 0
        self._seen: set[str] = set()
        self._files: dict[str, bytes] = {}
        descriptor, name = tempfile.mkstemp(dir=spool, suffix=".tar.gz")
        self._file = os.fdopen(descriptor, "wb")
        self._path = Path(name)

    def feed(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._size += len(data)
            if self._announced is not None:
                self._check_announced(self._announced, data)
            self._inflated(data)
        except TarError as error:
            self.discard()
            raise HubError("bad-source", f"The source is not accepted: {error}.") from error
        except zlib.error as error:
            self.discard()
            raise HubError("bad-source", "The source is not a .tar.gz.") from error
        except BaseException:
            self.discard()
            raise

    def _check_announced(self, announced: Announced, data: bytes = b"", *, whole: bool = False) -> None:
        self._packed_hash.update(data)
        if self._size > announced.size or (whole and self._size < announced.size):
            more = "or more " if not whole else ""
            raise TarError(f"{announced.size} bytes were announced, and {self._size} {more}came")
        if whole and self._packed_hash.hexdigest() != announced.digest:
            raise TarError("its SHA-256 is not the one that was announced")

    def _inflated(self, data: bytes) -> None:
        while True:
            if self._inflate.eof:
                if data:
                    raise TarError("there is something after the end of the archive")
                return
            piece = self._inflate.decompress(data, PIECE)
            self._plain += len(piece)
            if self._plain > PLAIN_LIMIT:
                raise TarError(f"unpacked it would be larger than {PLAIN_LIMIT >> 20} MiB")
            if self._plain > RATIO_FREE + RATIO_LIMIT * self._size:
                raise TarError("it is packed far tighter than sources are")
            self._hash.update(piece)
            self._tar.feed(piece)
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            # A full piece may mean that more is held back inside; an empty input asks for it.
            if not data and len(piece) < PIECE:
                return

    def _visit(self, entry: Entry) -> int:
        """Check the entry's place; how many bytes of it are worth reading."""
        if not entry.name:
            raise TarError("the archive has no folder of its own for its files")
        top, _, inner = entry.name.partition("/")
        if self._top is None:
            self._top = top
        if top != self._top or (not inner and entry.kind != "directory"):
            raise TarError("its files are not in one single folder")
        self._check_links(entry)
        if entry.kind == "regular" and self._wanted(inner):
            limit = self._limit(inner)
            if inner in self._files:
                raise TarError(f"{inner} is there twice")
            # One spelling is enough: each of the many could have a megabyte.
            if inner.lower() in self._seen:
                return -1
            self._seen.add(inner.lower())
            if entry.size > limit and inner in ("flake.nix", "flake.lock"):
                raise TarError(f"{inner} is larger than {limit >> 20} MiB")
            return limit
        return -1

    def _check_links(self, entry: Entry) -> None:
        if self._links and any(parent in self._links for parent in _folders(entry.name)):
            raise TarError(f"{entry.name[:100]!r} goes through a link")
        if entry.kind == "symlink":
            self._link_bytes += len(entry.name)
            if self._link_bytes > LINKS_LIMIT:
                raise TarError("it has far more links than sources have")
            self._links.add(entry.name)
        if entry.kind == "hardlink":
            target = PurePosixPath(entry.target)
            if target.is_absolute() or ".." in target.parts or target.parts[:1] != (self._top,):
                raise TarError(f"{entry.name[:100]!r} is a link that leaves the archive")

    def _wanted(self, inner: str) -> bool:
        return inner in ("flake.nix", "flake.lock") or inner.lower() in (*_READMES, *_LICENSES)

    def _limit(self, inner: str) -> int:
        return {"flake.nix": FLAKE_LIMIT, "flake.lock": LOCK_LIMIT}.get(inner, TEXT_LIMIT)

    def _collect(self, entry: Entry, data: bytes) -> None:
        self._files[entry.name.partition("/")[2]] = data

    def finish(self) -> Source:
        """The end of the body: what the source is. The file of the spool is the caller's from here on."""
        try:
            if self._announced is not None:
                self._check_announced(self._announced, whole=True)
            if not self._inflate.eof:
                raise TarError("it is cut short")
            self._tar.finish()
            self._check_flake()
            self._file.close()
        except TarError as error:
            self.discard()
            raise HubError("bad-source", f"The source is not accepted: {error}.") from error
        except BaseException:
            self.discard()
            raise
        text = self._text(_LICENSES)
        return Source(
            self._hash.hexdigest(),
            self._size,
            self._path,
            self._text(_READMES),
            license_of(text) if text else None,
        )

    def _check_flake(self) -> None:
        if "flake.nix" not in self._files:
            raise TarError("it has no flake.nix at its top")
        lock = self._files.get("flake.lock")
        if lock is not None:
            try:
                msgspec.json.decode(lock, type=_Lock)
            except msgspec.ValidationError:
                raise TarError("flake.lock is not a lock file") from None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise TarError("flake.lock is not JSON") from None

    def _text(self, names: tuple[str, ...]) -> str | None:
        """The first of these files; None where it is absent or not text."""
        by_lower = {name.lower(): data for name, data in self._files.items()}
        for name in names:
            data = by_lower.get(name)
            if data is not None and b"\0" not in data:
                return data.decode("utf-8", "replace")
        return None

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _folders(name: str) -> Iterator[str]:
    """The folders that a name stands in."""
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)
