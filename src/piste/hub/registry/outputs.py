"""What makes an output available: the manifest of its closure, and the organization's statement on it.

Used when a release is published, and when the last missing path of an output arrives later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from piste.hub.access.records import Project
from piste.hub.cache.records import PathRecord
from piste.hub.storage.base import Objects
from piste.lib.zstd import zstd
from piste.nix.closure import topological_order
from piste.nix.signature import SecretKey
from piste.nix.store_path import STORE_DIR
from piste.wire import manifest as manifest_format
from piste.wire import statement as statement_format
from piste.wire.manifest import Manifest, ManifestPath, encode_manifest, manifest_digest
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
    order = topological_order({name: path.references for name, path in paths.items()}, [root])
    place = {name: number for number, name in enumerate(order)}
    entries = [
        ManifestPath(
            path=name,
            nar_hash=paths[name].nar_hash,
            nar_size=paths[name].nar_size,
            references=sorted(place[reference] for reference in paths[name].references),
            content_address=paths[name].content_address,
        )
        for name in order
    ]
    data = encode_manifest(Manifest(manifest_format.FORMAT, STORE_DIR, entries))
    return BuiltManifest(
        manifest_digest(data), root, len(entries), sum(entry.nar_size for entry in entries), data
    )


async def put_manifest(objects: Objects, built: BuiltManifest) -> None:
    """Durable when it returns; without a row that names it, nobody sees it."""
    await objects.put(packed_manifest_key(built.digest), zstd.compress(built.data, level=3))
    await objects.put(manifest_key(built.digest), built.data)


def sign_statement(
    project: Project,
    version: str,
    sequence: int,
    *,
    attribute: str,
    store_path: str,
    system: str | None,
    manifest: str,
    keys: Sequence[SecretKey],
) -> SignedStatement:
    """What the organization says of one available output, signed by each of its keys."""
    text = encode_statement(
        Statement(
            format=statement_format.FORMAT,
            organization=project.organization_name,
            project=project.name,
            version=version,
            sequence=sequence,
            attribute_path=attribute,
            store_path=store_path,
            system=system,
            manifest=manifest,
        )
    )
    return SignedStatement(text, [key.sign(text) for key in keys])
