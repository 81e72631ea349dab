"""The manifest: all path infos of one closure, dependencies first. Format `piste-manifest-1`.

A manifest is immutable and named by the SHA-256 of its bytes, so the text form is canonical: JSON without
white space, fields in the order given here, paths in topological order with ties by base name. `references`
are indices into `paths`; an index is never greater than the path's own place (equal means a path that
refers to itself), which is what makes the order checkable in one pass. The last path is the root.

Signatures and addresses of NARs are not part of it: keys rotate and files move while the closure stays the
same.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

import msgspec

from piste.nix.closure import topological_order
from piste.nix.store_path import STORE_DIR

FORMAT: Final = "piste-manifest-1"
_PIECE: Final = 1024  # paths


class ManifestPath(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    path: str  # base name
    nar_hash: str  # sha256:<nix32>
    nar_size: int
    references: list[int]
    content_address: str | None = None


class _Named(msgspec.Struct):
    """What tells how to read the rest."""

    format: str


class Manifest(msgspec.Struct, frozen=True):
    format: str
    store_dir: str
    paths: list[ManifestPath]

    @property
    def root(self) -> ManifestPath:
        return self.paths[-1]


class ManifestError(ValueError):
    """The bytes are not a manifest, or not the one that was promised."""


class UnknownFormatError(ManifestError):
    """The bytes are those that were promised, in a format of a later version."""


class Described(Protocol):
    """What a manifest says of a path, as hub and publisher know it."""

    @property
    def nar_hash(self) -> str: ...
    @property
    def nar_size(self) -> int: ...
    @property
    def references(self) -> Sequence[str]: ...
    @property
    def content_address(self) -> str | None: ...


def make_manifest(root: str, paths: Mapping[str, Described]) -> Manifest:
    """The manifest of the closure of `root`. `paths` is by base name and has all of it; ClosureError for a
    cycle.
    """
    references = {name: path.references for name, path in paths.items()}
    order = topological_order(references, [root])
    place = {name: number for number, name in enumerate(order)}
    entries = [
        ManifestPath(
            path=name,
            nar_hash=paths[name].nar_hash,
            nar_size=paths[name].nar_size,
            references=sorted(place[reference] for reference in references[name]),
            content_address=paths[name].content_address,
        )
        for name in order
    ]
    return Manifest(FORMAT, STORE_DIR, entries)


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes; their digest is the manifest's name."""
    return msgspec.json.encode(manifest)


def manifest_pieces(manifest: Manifest) -> Iterator[bytes]:
    """The canonical bytes, some hundred kilobytes at a time."""
    return _pieces(msgspec.structs.replace(manifest, paths=[]), manifest.paths)


def entry_pieces(entries: Iterable[ManifestPath]) -> Iterator[bytes]:
    """The canonical bytes of a manifest of these entries, which need not all be there at once."""
    return _pieces(Manifest(FORMAT, STORE_DIR, []), entries)


def _pieces(empty: Manifest, entries: Iterable[ManifestPath]) -> Iterator[bytes]:
    yield msgspec.json.encode(empty).removesuffix(b"]}")
    rest, comma = iter(entries), b""
    while some := list(islice(rest, _PIECE)):
        yield comma + msgspec.json.encode(some)[1:-1]
        comma = b","
    yield b"]}"


def manifest_digest(data: bytes) -> str:
    """`sha256:<64 hex digits>` of the canonical bytes."""
    return digest_of_pieces([data])


def digest_of_pieces(pieces: Iterable[bytes]) -> str:
    """The same, of bytes that come in pieces."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return "sha256:" + digest.hexdigest()


def decode_manifest(data: bytes, digest: str) -> Manifest:
    """Decode and check bytes that should be the manifest `digest`; ManifestError says what is wrong."""
    if manifest_digest(data) != digest:
        raise ManifestError("the manifest does not have the digest that was promised")
    try:
        named = msgspec.json.decode(data, type=_Named).format
        if named != FORMAT:
            raise UnknownFormatError(f"it has the format {named!r}, and this version reads {FORMAT!r}")
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise ManifestError(f"the manifest can't be read: {error}") from error
    return check_manifest(manifest)


def check_manifest(manifest: Manifest) -> Manifest:
    """The same manifest; ManifestError where no hub would have made it."""
    if manifest.format != FORMAT:
        raise ManifestError(f"the manifest has the format {manifest.format!r}; this version reads {FORMAT!r}")
    if not manifest.paths:
        raise ManifestError("the manifest names no path")
    for place, entry in enumerate(manifest.paths):
        if any(not 0 <= reference <= place for reference in entry.references):
            raise ManifestError(f"{entry.path} refers to a path that does not come before it")
    return manifest
