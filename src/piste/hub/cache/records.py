"""What the cache remembers of a path: one record for what a project says of it, and what becomes of it on the
wire.
"""

from typing import Self

import msgspec

from piste.lib.decompress import SUFFIXES
from piste.nix.hashes import Hash
from piste.nix.narinfo import NarInfo, PathInfo, parse_narinfo
from piste.nix.realisation import DrvOutput, Realisation
from piste.nix.store_path import StorePath


class PathRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The columns that path_info and staged_path share."""

    hash_part: str
    name: str
    nar_hash: str  # sha256:<nix32>
    nar_size: int
    reference_names: str  # JSON array of base names
    deriver: str | None = None  # base name
    content_address: str | None = None
    signatures: str = "[]"  # JSON array of NAME:BASE64
    upstream: str | None = None  # address; set where the path is pinned
    upstream_narinfo: str | None = None

    @classmethod
    def of(cls, info: PathInfo) -> Self:
        """What is known of a path, as a row."""
        return cls(
            hash_part=info.path.hash_part,
            name=info.path.name,
            nar_hash=info.nar_hash.nix32(),
            nar_size=info.nar_size,
            reference_names=msgspec.json.encode([path.base_name for path in info.references]).decode(),
            deriver=info.deriver.base_name if info.deriver is not None else None,
            content_address=info.ca,
            signatures=msgspec.json.encode(info.signatures).decode(),
        )

    @property
    def base_name(self) -> str:
        return f"{self.hash_part}-{self.name}"

    @property
    def references(self) -> list[str]:
        """Base names."""
        return msgspec.json.decode(self.reference_names, type=list[str])

    @property
    def all_signatures(self) -> list[str]:
        return msgspec.json.decode(self.signatures, type=list[str])

    def info(self) -> PathInfo:
        return PathInfo(
            path=StorePath(self.hash_part, self.name),
            nar_hash=Hash.parse(self.nar_hash),
            nar_size=self.nar_size,
            references=tuple(StorePath.from_base_name(name) for name in self.references),
            deriver=StorePath.from_base_name(self.deriver) if self.deriver is not None else None,
            signatures=tuple(self.all_signatures),
            ca=self.content_address,
        )

    def pinned(self) -> NarInfo | None:
        """The upstream's narinfo where the path is pinned."""
        return parse_narinfo(self.upstream_narinfo) if self.upstream_narinfo is not None else None


class StoredPath(PathRecord, frozen=True, kw_only=True):
    """A row of path_info, with the file of its NAR where the hub holds it."""

    project: str
    created_at: int
    file_hash: str | None = None
    file_size: int | None = None

    def narinfo(self) -> NarInfo:
        """What is served: a NAR of our own under its NarHash, or, for a pinned path, the upstream's by our
        address.
        """
        pinned = self.pinned()
        if pinned is None:
            return NarInfo(
                self.info(),
                url=f"nar/{nar_file(self.nar_hash, 'zstd')}",
                compression="zstd",
                file_hash=Hash.parse(self.file_hash) if self.file_hash is not None else None,
                file_size=self.file_size,
            )
        return NarInfo(
            self.info(),
            url=f"nar/{nar_file(self.nar_hash, pinned.compression)}",
            compression=pinned.compression,
            file_hash=pinned.file_hash,
            file_size=pinned.file_size,
        )


class TraceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a project says that an output of a derivation became."""

    project: str
    out_path: str  # base name
    dependents: str  # JSON object
    signatures: str  # JSON array, as they came

    def realisation(self, about: DrvOutput) -> Realisation:
        return Realisation(
            about,
            StorePath.from_base_name(self.out_path),
            tuple(msgspec.json.decode(self.signatures, type=list[str])),
            msgspec.json.decode(self.dependents, type=dict[str, str]),
        )


class FurtherSigned(msgspec.Struct, frozen=True):
    """A path that a project has, as its signatures become (JSON arrays)."""

    project: str
    hash_part: str
    signatures: str
    before: str


def nar_file(nar_hash: str, compression: str) -> str:
    """The file name of a NAR in an address."""
    suffix = SUFFIXES.get(compression, f".{compression}")
    return f"{nar_hash.removeprefix('sha256:')}.nar{suffix}"
