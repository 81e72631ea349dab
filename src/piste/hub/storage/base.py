"""What an object store gives to the stages.

Keys are made by the hub alone, of `[a-z0-9./_-]`, never of a client's words: `nar/<nix32>.nar.zst`,
`source/<hex>.tar.gz`, `manifest/<hex>.json`, `listing/<nix32>.json.zst`, `log/<hex>.zst`. An object never
changes once it is there.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class LocalFile:
    """The object is a file that this process may open."""

    path: Path
    size: int
    internal: str | None = None  # the address by which a proxy in front of the hub may be told to send it


@dataclass(frozen=True)
class Redirect:
    """The client may fetch the object there itself, for minutes."""

    url: str


Location = LocalFile | Redirect


class Objects(Protocol):
    """A store of objects. Every method may raise OSError (ENOSPC when it is full)."""

    spool: Path
    """A folder on this machine for files in the making; what is in it may be deleted when the hub starts."""

    async def put_file(self, key: str, file: Path) -> bool:
        """Take over a finished file of the spool; durable when it returns. An object that is there already
        stays: then the answer is False, and the file of the spool is gone as well."""
        ...

    async def put(self, key: str, data: bytes) -> bool: ...

    async def locate(self, key: str) -> Location | None:
        """Where a client can get it from; None when it is not there."""
        ...

    async def read(self, key: str) -> bytes | None:
        """A small object (a manifest, a listing, a log) as a whole."""
        ...

    def stream(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Bytes `start` to before `stop`, in pieces of at most 256 KiB."""
        ...

    async def size(self, key: str) -> int | None: ...
    async def delete(self, key: str) -> None: ...
    async def is_older(self, key: str, moment: float) -> bool:
        """Whether nobody has put the object since `moment`; False when it is not there."""
        ...

    async def delete_if_older(self, key: str, moment: float) -> bool:
        """Remove an object that nobody has put again since `moment` (seconds since the epoch); whether it
        went."""
        ...

    def keys(self, prefix: str) -> AsyncIterator[str]: ...
