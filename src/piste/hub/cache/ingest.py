"""Taking in a NAR: one pass over its bytes that decompresses, hashes, checks the grammar, lists and scans,
and writes what is to be kept to the spool.

The same engine serves Piste's own uploads and those of stock clients. It runs in a thread and holds one piece
of 256 KiB, a decompressor's window and the listing. Whoever makes an Intake ends it, by `finish` or by
`discard`: nothing that was cut short leaves a file behind. Must never believe a size or a hash that a client
gives.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piste.hub.errors import HubError
from piste.lib.decompress import DecompressError, decompressor
from piste.lib.zstd import zstd
from piste.nix import base32
from piste.nix.listing import build_ids
from piste.nix.nar import NarError, NarParser
from piste.nix.reference_scan import KnownHashParts, ReferenceScanner

# A NAR larger than this is refused whoever sends it.
NAR_LIMIT: Final = 64 << 30
# How much larger than its NAR a compressed file may be, beside a sixteenth: what a decompressor holds back.
PADDING: Final = 1 << 20
# Level 3 for what stock clients send in another compression: fast, and what Nix's own writer takes for zstd.
LEVEL: Final = 3


@dataclass(frozen=True)
class Ingested:
    """A NAR that was verified and lies in the spool as zstd."""

    nar_hash: str  # sha256:<nix32>
    nar_size: int
    file_hash: str  # sha256:<nix32>
    file_size: int
    file: Path
    listing: bytes | None  # version 1 of `.ls`, zstd; None where it can't be made
    found: frozenset[str]  # which of the known hash parts the NAR mentions
    build_ids: tuple[str, ...] = ()  # of the debug information in the NAR


class Intake:
    """One NAR on its way in. `feed` and `finish` raise HubError and then have cleaned up."""

    def __init__(
        self,
        spool: Path,
        *,
        compression: str = "zstd",
        limit: int = NAR_LIMIT,
        known: KnownHashParts | None = None,
    ) -> None:
        self._limit = limit
        self._plain = decompressor(compression)
        self._compressor = None if compression == "zstd" else zstd.ZstdCompressor(level=LEVEL)
        self._parser = NarParser()
        self._scanner = ReferenceScanner(known) if known is not None else None
        self._nar_hash = hashlib.sha256()
        self._file_hash = hashlib.sha256()
        self._nar_size = 0
        self._file_size = 0
        descriptor, name = tempfile.mkstemp(dir=spool, suffix=".nar.zst")
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._path = Path(name)

    def feed(self, data: bytes) -> None:
        """Take compressed bytes."""
        try:
            if self._compressor is None:
                self._write(data)
            for piece in self._plain.feed(data):
                self._take(piece)
            self._check_padding()
        except DecompressError as error:
            self.discard()
            raise HubError("bad-nar", f"The NAR can't be decompressed: {error}.") from error
        except NarError as error:
            self.discard()
            raise HubError("bad-nar", f"These bytes are not a NAR: {error}.") from error
        except BaseException:
            self.discard()
            raise

    def _take(self, piece: bytes) -> None:
        self._nar_size += len(piece)
        if self._nar_size > self._limit:
            raise HubError(
                "nar-mismatch", f"The NAR is larger than the {self._limit} bytes that were declared."
            )
        self._nar_hash.update(piece)
        self._parser.feed(piece)
        if self._scanner is not None:
            self._scanner.feed(piece)
        if self._compressor is not None:
            self._write(self._compressor.compress(piece))

    def _check_padding(self) -> None:
        """A zstd file may hold anything beside its frames, and all who have the NAR get the file that came
        first."""
        if self._compressor is None and self._file_size > self._nar_size + self._nar_size // 16 + PADDING:
            raise HubError(
                "bad-nar",
                "The compressed NAR is larger than the NAR itself.",
                hint="Compress it with `zstd`; a file must hold nothing but the NAR.",
            )

    def _write(self, data: bytes) -> None:
        self._file_hash.update(data)
        self._file_size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self) -> Ingested:
        """The end of the bytes: what they were. The file of the spool is the caller's from here on."""
        try:
            self._plain.finish()
            self._parser.finish()
            if self._compressor is not None:
                self._write(self._compressor.flush())
            listing = self._parser.listing_json()
        except (DecompressError, NarError) as error:
            self.discard()
            raise HubError("bad-nar", f"The NAR is cut short or damaged: {error}.") from error
        except BaseException:
            self.discard()
            raise
        self._file.close()
        return Ingested(
            nar_hash="sha256:" + base32.encode(self._nar_hash.digest()),
            nar_size=self._nar_size,
            file_hash="sha256:" + base32.encode(self._file_hash.digest()),
            file_size=self._file_size,
            file=self._path,
            listing=zstd.compress(listing, level=LEVEL) if listing is not None else None,
            found=frozenset(self._scanner.found) if self._scanner is not None else frozenset(),
            build_ids=build_ids(listing) if listing is not None else (),
        )

    def discard(self) -> None:
        """Leave nothing behind. May be called at any time before `finish` has returned."""
        self._file.close()
        self._path.unlink(missing_ok=True)
