"""What the cache decides from records alone: names in addresses, unions of projects, ranges. Never asks
anybody.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from piste.hub.cache.records import StoredPath
from piste.lib.decompress import SUFFIXES
from piste.nix import base32

CACHE_INFO: Final = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\n"

_NAR_FILE: Final = re.compile(r"([0-9a-z]{52})\.nar((?:\.[a-z0-9]{1,8})?)")
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_COMPRESSIONS: Final = {suffix: name for name, suffix in SUFFIXES.items()}


@dataclass(frozen=True)
class NarFile:
    """The name of a NAR in an address: 52 characters of nix32 (NarHash in ours, FileHash in a stock client's)
    and how it is compressed (None: a way that the hub can't read).
    """

    digest: str
    suffix: str

    @property
    def nar_hash(self) -> str:
        """If it is one of our names."""
        return f"sha256:{self.digest}"

    @property
    def compression(self) -> str | None:
        return _COMPRESSIONS.get(self.suffix)


def parse_nar_file(name: str) -> NarFile | None:
    """None for what is no name of a NAR."""
    match = _NAR_FILE.fullmatch(name)
    if match is None:
        return None
    try:
        base32.decode(match[1])
    except base32.Base32Error:
        return None
    return NarFile(match[1], match[2])


def pushed_compression(file: NarFile, nar_hash: str) -> str | None:
    """How the NAR with this hash was compressed when a stock client put it under this name. They give gzip no
    suffix, like no compression at all; but then the file's hash, which is in the name, is the NAR's.
    """
    return "gzip" if file.suffix == "" and file.nar_hash != nar_hash else file.compression


def united(paths: Sequence[StoredPath]) -> StoredPath | None:
    """What several projects say of one path, as one; None when they don't agree on what it is.

    Bytes that the hub holds come before an upstream's, and everybody's signatures are passed on."""
    if not paths:
        return None
    if len({(path.name, path.nar_hash, path.nar_size, tuple(path.references)) for path in paths}) > 1:
        return None
    chosen = min(paths, key=lambda path: path.upstream is not None)
    signatures = dict.fromkeys(signature for path in paths for signature in path.all_signatures)
    return msgspec.structs.replace(chosen, signatures=msgspec.json.encode(list(signatures)).decode())


class UnsatisfiableError(ValueError):
    """The range begins behind the end."""


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None where the whole is to be sent (no range, or a form that one
    may ignore).
    """
    match = _RANGE.fullmatch(text.replace(" ", "")) if text is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        if int(match[2]) == 0:
            raise UnsatisfiableError
        return max(0, size - int(match[2])), size
    start = int(match[1])
    stop = min(size, int(match[2]) + 1) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return start, stop


def accepts_zstd(accept_encoding: str) -> bool:
    """Whether a client takes Content-Encoding zstd."""
    for word in accept_encoding.lower().split(","):
        coding, _, parameters = word.strip().partition(";")
        if coding.strip() == "zstd":
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
