"""What makes an output available: the manifest of its closure, and the organization's statement on it.

Used when a release is published, and when the last missing path of an output arrives later.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from piste.hub.access.records import Project
from piste.hub.cache.gathered import Gathered
from piste.hub.services import Services
from piste.lib.files import new_file
from piste.lib.zstd import zstd
from piste.nix.signature import SecretKey
from piste.wire import statement as statement_format
from piste.wire.manifest import ManifestPath, entry_pieces
from piste.wire.statement import Statement, encode_statement

_PIECE: Final = 1 << 18


@dataclass(frozen=True)
class BuiltManifest:
    digest: str  # sha256:<hex>
    root: str  # base name
    path_count: int
    nar_size: int


@dataclass(frozen=True)
class SignedStatement:
    text: str
    signatures: list[str]

    @property
    def signatures_json(self) -> str:
        return msgspec.json.encode(self.signatures).decode()


def manifest_key(digest: str) -> str:
    """Where a manifest's canonical bytes are."""
    return f"manifest/{digest.removeprefix('sha256:')}.json"


def packed_manifest_key(digest: str) -> str:
    """Where the same bytes are as zstd."""
    return manifest_key(digest) + ".zst"


def write_manifest(root: str, paths: Gathered, file: BinaryIO) -> BuiltManifest:
    """The manifest of the closure of `root`, all of which is there, written as it is made. ClosureError for
    a cycle. CPU work: call it in a thread.
    """
    digest = hashlib.sha256()
    counts = _Counts(paths.closure(root))
    for piece in entry_pieces(counts):
        digest.update(piece)
        file.write(piece)
    return BuiltManifest("sha256:" + digest.hexdigest(), root, counts.paths, counts.nar_size)


async def keep_manifest(services: Services, root: str, paths: Gathered) -> BuiltManifest:
    """Write it as an object. Durable when it returns; without a row that names it, nobody sees it."""
    with ExitStack() as files:
        plain, packed = (files.enter_context(new_file(services.objects.spool)) for _ in range(2))
        built = await services.workers.run(_write, root, paths, plain, packed)
        await services.objects.put_file(packed_manifest_key(built.digest), packed)
        await services.objects.put_file(manifest_key(built.digest), plain)
    return built


def _write(root: str, paths: Gathered, plain: Path, packed: Path) -> BuiltManifest:
    with plain.open("wb") as file:
        built = write_manifest(root, paths, file)
    compressor = zstd.ZstdCompressor(level=3)
    # A reader learns from the frame how much room it needs.
    compressor.set_pledged_input_size(plain.stat().st_size)
    with plain.open("rb") as file, packed.open("wb") as out:
        while piece := file.read(_PIECE):
            out.write(compressor.compress(piece))
        out.write(compressor.flush())
    return built


class _Counts:
    """Counts entries as they pass."""

    def __init__(self, entries: Iterable[ManifestPath]) -> None:
        self._entries = entries
        self.paths = self.nar_size = 0

    def __iter__(self) -> Iterator[ManifestPath]:
        for entry in self._entries:
            self.paths += 1
            self.nar_size += entry.nar_size
            yield entry


class Recorded(Protocol):
    """An output, staged or published."""

    @property
    def attribute(self) -> str: ...
    @property
    def store_path(self) -> str: ...
    @property
    def system(self) -> str | None: ...


def statement_text(project: Project, version: str, sequence: int, output: Recorded, manifest: str) -> str:
    """What the organization says of one available output; its keys sign it."""
    return encode_statement(
        Statement(
            format=statement_format.FORMAT,
            organization=project.organization_name,
            project=project.name,
            version=version,
            sequence=sequence,
            attribute_path=output.attribute,
            store_path=output.store_path,
            system=output.system,
            manifest=manifest,
        )
    )


def sign_statement(text: str, keys: Sequence[SecretKey], given: Sequence[str] = ()) -> SignedStatement:
    """Signed by each of the keys that the hub holds; `given` are the publisher's signatures, which were
    verified.
    """
    return SignedStatement(text, [*(key.sign(text) for key in keys), *given])
