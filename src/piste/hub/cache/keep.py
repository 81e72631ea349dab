"""Putting a verified NAR where it stays: the file, its listing, and what the hub says of the file.

The objects come first and their rows later: an object without a row is harmless and collected.
"""

import hashlib
from dataclasses import dataclass, replace

from piste.hub.cache.ingest import Ingested
from piste.hub.storage.base import Objects
from piste.nix import base32


@dataclass(frozen=True)
class KeptNar:
    """The row of a NAR; hash and size of the file are those of the object that is there."""

    nar_hash: str
    nar_size: int
    file_hash: str
    file_size: int
    build_ids: tuple[str, ...] = ()  # of the debug information within, where it came just now


def nar_key(nar_hash: str) -> str:
    """Where the bytes are; `nar_hash` is `sha256:<nix32>`."""
    return f"nar/{nar_hash.removeprefix('sha256:')}.nar.zst"


def listing_key(nar_hash: str) -> str:
    return f"listing/{nar_hash.removeprefix('sha256:')}.json.zst"


async def keep(objects: Objects, nar: Ingested, described: KeptNar | None) -> KeptNar:
    """Take the NAR out of the spool, durably. `described` is the row that there is of it already.

    It takes no longer when somebody else has brought the NAR before: that is nobody's business.
    """
    try:
        if nar.listing is not None:
            await objects.put(listing_key(nar.nar_hash), nar.listing)
        taken = await objects.put_file(nar_key(nar.nar_hash), nar.file)
    finally:
        nar.file.unlink(missing_ok=True)
    if taken:
        return KeptNar(nar.nar_hash, nar.nar_size, nar.file_hash, nar.file_size, nar.build_ids)
    if described is not None:
        return replace(described, build_ids=nar.build_ids)
    # A file without a row, compressed in another way perhaps: the row has to describe that one.
    digest, size = hashlib.sha256(), 0
    async for piece in objects.stream(nar_key(nar.nar_hash)):
        digest.update(piece)
        size += len(piece)
    file_hash = "sha256:" + base32.encode(digest.digest())
    return KeptNar(nar.nar_hash, nar.nar_size, file_hash, size, nar.build_ids)
