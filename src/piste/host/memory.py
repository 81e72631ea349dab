"""What this host was told of releases that it has fetched, so that the hub need not tell it again.

Manifests to build upon, and the last answers, for the question whether they still hold. Nothing in it is
believed: a manifest has the digest that it is named by, a resolution its signed statement. All of it can be
lost at any time.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from piste.host.place import Host
from piste.lib.files import write_atomically
from piste.wire.manifest import Manifest, ManifestError, decode_manifest, manifest_pieces
from piste.wire.resolution import Resolution

_KEPT: Final = 6


class Remembered(msgspec.Struct, frozen=True):
    """A release that was fetched, and what had been asked."""

    question: str
    etag: str
    resolution: Resolution  # without its token
    file_sizes: msgspec.Raw  # by place in the manifest, where they were told; read when they are wanted

    def sizes(self) -> dict[int, int]:
        """The sizes of the files, by place in the manifest; none if they can't be read."""
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(self.file_sizes, type=dict[int, int])
        return {}


class _Notes(msgspec.Struct, frozen=True):
    newest_first: list[Remembered]
    speed: float | None = None  # bytes a second


class Memory:
    """The folder with the notes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._folder: Path | None = None
        self._notes = _Notes([])
        with contextlib.suppress(Exception):  # whatever is wrong with it, there is nothing to remember
            self._folder = host.cache_folder() / "releases"
            self._notes = msgspec.json.decode((self._folder / "notes.json").read_bytes(), type=_Notes)
        self._manifests: dict[str, Manifest] = {}
        self._kept: set[str] = set()

    @property
    def speed(self) -> float | None:
        """How many bytes a second came last time."""
        return self._notes.speed

    def answer(self, question: str) -> Remembered | None:
        """The last answer to a question, if its release is here."""
        for one in self._notes.newest_first:
            if one.question == question and self._is_here(one):
                return one if self.manifest(one.resolution.manifest) is not None else None
        return None

    def releases(self, organization: str, project: str, running: str | None) -> list[Remembered]:
        """Releases of a project that are here, the one that runs first, else the newest."""
        name = (organization.lower(), project.lower())
        found: dict[str, Remembered] = {}
        for one in self._notes.newest_first:
            told = (one.resolution.organization.lower(), one.resolution.project.lower())
            if told == name and self._is_here(one) and self._is_kept(one.resolution.manifest):
                found.setdefault(one.resolution.manifest, one)
        return sorted(found.values(), key=lambda one: one.resolution.store_path != running)

    def manifest(self, digest: str) -> Manifest | None:
        """A manifest `sha256:<hex>` that was kept."""
        if digest not in self._manifests and self._folder is not None:
            with contextlib.suppress(OSError, ManifestError):
                data = self._file(digest, self._folder).read_bytes()
                self._manifests[digest] = decode_manifest(data, digest)
        return self._manifests.get(digest)

    def _is_kept(self, digest: str) -> bool:
        """Whether `manifest` would give it: all of them at once would take much memory."""
        if digest not in self._kept and self._folder is not None:
            with contextlib.suppress(OSError), self._file(digest, self._folder).open("rb") as file:
                if "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    self._kept.add(digest)
        return digest in self._kept

    def remember(
        self,
        question: str,
        etag: str,
        resolution: Resolution,
        manifest: Manifest,
        file_sizes: Sequence[int],
        speed: float | None,
    ) -> None:
        """Keep what was told of a release that is here now. What can't be written is not remembered.

        `file_sizes` are by place, and negative where they are not known.
        """
        plain = msgspec.structs.replace(resolution, token=None, token_expires_at=None)
        sizes = msgspec.json.encode({place: size for place, size in enumerate(file_sizes) if size >= 0})
        new = Remembered(question, etag, plain, msgspec.Raw(sizes))
        older = (one for one in self._notes.newest_first if one.question != question or not _same(one, new))
        kept = [new, *older][:_KEPT]
        notes = _Notes(kept, speed or self._notes.speed)
        if notes == self._notes or self._folder is None:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = self._file(resolution.manifest, self._folder)
            if not file.exists():
                write_atomically(file, manifest_pieces(manifest), mode=0o600)
            write_atomically(self._folder / "notes.json", msgspec.json.encode(notes), mode=0o600)
            self._sweep(self._folder, kept)

    def _sweep(self, folder: Path, kept: Sequence[Remembered]) -> None:
        names = {self._file(one.resolution.manifest, folder).name for one in kept}
        for file in folder.glob("*.manifest"):
            if file.name not in names:
                file.unlink(missing_ok=True)

    def _is_here(self, one: Remembered) -> bool:
        return os.path.lexists(self._host.store.real_path(one.resolution.store_path))

    @staticmethod
    def _file(digest: str, folder: Path) -> Path:
        return folder / f"{hashlib.sha256(digest.encode()).hexdigest()}.manifest"


def _same(one: Remembered, other: Remembered) -> bool:
    return one.resolution.manifest == other.resolution.manifest
