"""The body of an upload: NARs one after another, each with its hash and length before it
(wire/publication.py).

Runs in a thread. NARs that were whole and right stay in `ready`, also when a later one is not. Must never
keep anything of a NAR that is not what its header and the declaration say.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from piste.hub.cache.ingest import Ingested, Intake
from piste.hub.errors import HubError
from piste.nix import base32
from piste.nix.reference_scan import KnownHashParts

HASH_LENGTH: Final = 52
HEADER_LENGTH: Final = HASH_LENGTH + 8


class Bundle:
    """Reads one body; `sizes` tells the NARs that were declared, `known` the hash parts to scan for."""

    def __init__(self, spool: Path, sizes: Mapping[str, int], known: KnownHashParts) -> None:
        self._spool = spool
        self._sizes = sizes
        self._known = known
        self._header = b""
        self._hash = ""
        self._left = 0
        self._intake: Intake | None = None
        self.ready: list[Ingested] = []

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        rest = memoryview(data)
        while rest:
            if self._intake is None:
                wanted = HEADER_LENGTH - len(self._header)
                self._header += bytes(rest[:wanted])
                rest = rest[wanted:]
                if len(self._header) == HEADER_LENGTH:
                    self._begin()
            else:
                piece, rest = rest[: self._left], rest[self._left :]
                self._left -= len(piece)
                self._intake.feed(bytes(piece))
                self._end_if_whole(self._intake)

    def _begin(self) -> None:
        text, self._left = self._header[:HASH_LENGTH], int.from_bytes(self._header[HASH_LENGTH:], "little")
        self._header = b""
        try:
            self._hash = "sha256:" + base32.encode(base32.decode(text.decode("ascii")))
        except ValueError as error:
            raise HubError("bad-nar", "The upload has no NAR hash where one should be.") from error
        if self._hash not in self._sizes:
            raise HubError(
                "bad-nar",
                f"No path of this publication was declared with the NAR hash {self._hash}.",
                hint="Declare the path first; a path that is declared anew has another NAR now.",
            )
        if self._left == 0:
            raise HubError("bad-nar", f"The NAR {self._hash} has no bytes.")
        self._intake = Intake(self._spool, limit=self._sizes[self._hash], known=self._known)

    def _end_if_whole(self, intake: Intake) -> None:
        if self._left:
            return
        self._intake = None
        nar = intake.finish()
        if nar.nar_hash != self._hash or nar.nar_size != self._sizes[self._hash]:
            nar.file.unlink(missing_ok=True)
            raise HubError(
                "nar-mismatch",
                f"The NAR that was declared as {self._hash} with {self._sizes[self._hash]} bytes"
                f" is {nar.nar_hash} with {nar.nar_size}.",
            )
        self.ready.append(nar)

    def finish(self) -> None:
        """The body has ended."""
        if self._intake is not None or self._header:
            self.discard()
            raise HubError(
                "bad-nar", "The upload was cut in the middle of a NAR.", hint="Send the rest again."
            )

    def discard(self) -> None:
        """Leave nothing behind of what is not taken from `ready`."""
        if self._intake is not None:
            self._intake.discard()
            self._intake = None
        for nar in self.ready:
            nar.file.unlink(missing_ok=True)
        self.ready = []
