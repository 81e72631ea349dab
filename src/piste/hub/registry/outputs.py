"""What makes an output available: the manifest of its closure, and the organization's statement on it.

Used when a release is published, and when the last missing path of an output arrives later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from piste.hub.access.records import Project
from piste.hub.cache.records import PathRecord
from piste.hub.storage.base import Objects
from piste.lib.zstd import zstd
from piste.nix.signature import SecretKey
from piste.wire import statement as statement_format
from piste.wire.manifest import encode_manifest, make_manifest, manifest_digest
from piste.wire.statement import Statement, encode_statement


@dataclass(frozen=True)
class BuiltManifest:
    digest: str  # sha256:<hex>
    root: str  # base name
    path_count: int
    nar_size: int
    data: bytes


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


def build_manifest(root: str, paths: Mapping[str, PathRecord]) -> BuiltManifest:
    """The manifest of the closure of `root`; `paths` is by base name and has all of it. ClosureError for a
    cycle.
    """
    manifest = make_manifest(root, paths)
    data = encode_manifest(manifest)
    size = sum(entry.nar_size for entry in manifest.paths)
    return BuiltManifest(manifest_digest(data), root, len(manifest.paths), size, data)


async def put_manifest(objects: Objects, built: BuiltManifest) -> None:
    """Durable when it returns; without a row that names it, nobody sees it."""
    await objects.put(packed_manifest_key(built.digest), zstd.compress(built.data, level=3))
    await objects.put(manifest_key(built.digest), built.data)


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
