"""NAR archives as a stream: a parser that checks every byte that is not content, and a writer.

Both hold no more than a few kilobytes of the archive and keep no contents. The parser must never accept what
Nix refuses: such a NAR would become part of a release that no host can run.
"""

import json
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from piste.nix.listing import LISTING_LIMIT, ListingWriter

# Directories within directories: Nix 2.34 refuses the 64th, older ones have no limit.
MAX_DEPTH: Final = 63
MAX_NAME: Final = 255
MAX_TARGET: Final = 4095
MAX_SIZE: Final = 2**63 - 1

Buffer = bytes | memoryview

_U64: Final = struct.Struct("<Q")
_read_u64: Final[Callable[[bytes, int], tuple[int]]] = _U64.unpack_from


class NarError(ValueError):
    """The bytes are not a NAR, or end before it does."""


def token(text: bytes) -> bytes:
    """A string as NARs have it: its length, its bytes, and zeros up to a multiple of eight."""
    return _U64.pack(len(text)) + text + bytes(-len(text) % 8)


_MAGIC: Final = token(b"nix-archive-1")
_OPEN: Final = token(b"(") + token(b"type")
_CLOSE: Final = token(b")")
_REGULAR: Final = token(b"regular") + token(b"contents")
_EXECUTABLE: Final = token(b"regular") + token(b"executable") + token(b"") + token(b"contents")
_SYMLINK: Final = token(b"symlink") + token(b"target")
_DIRECTORY: Final = token(b"directory")
_ENTRY: Final = token(b"entry") + token(b"(") + token(b"name")
_NODE: Final = token(b"node")
_FORBIDDEN_NAMES: Final = frozenset({b"", b".", b".."})


class NarSink(Protocol):
    """Who wants to hear what a NAR holds. NarWriter has this form: it gives the same bytes again."""

    def directory(self) -> object: ...

    def entry(self, name: bytes) -> object: ...

    def regular(self, size: int, executable: bool = False) -> object: ...

    def data(self, piece: Buffer) -> object: ...

    def symlink(self, target: bytes) -> object: ...

    def end(self) -> object: ...


class NarParser:
    """Takes a NAR in pieces of any size.

    Each step looks at one token group of bounded length; one that is not whole yet waits for the next piece.
    Contents of files are counted, not copied.
    """

    def __init__(self, *, sink: NarSink | None = None, listing_limit: int = LISTING_LIMIT) -> None:
        self.done = False
        self._sink = sink
        self._rest = b""
        self._base = 0  # where in the archive the buffer begins
        self._content = 0  # bytes of the current file that are still to come
        self._padding = b""
        self._names: list[bytes] = []  # the last entry of each open directory
        self._step: Callable[[bytes, int], int] = self._start
        self._listing = ListingWriter(listing_limit)

    @property
    def size(self) -> int:
        """How many bytes of the archive were taken; its whole size once `done`."""
        return self._base

    def feed(self, data: Buffer) -> None:
        if self.done and data:
            raise NarError("bytes follow after the end of the NAR")
        if self._content:
            data = self._pass_content(data)
        if not data:
            return
        buffer = self._rest + data if self._rest else bytes(data)
        at = self._walk(buffer)
        self._base += at
        self._rest = buffer[at:]

    @property
    def unused(self) -> bytes:
        """What was fed beyond the end of the archive; empty before it is `done`."""
        return self._rest if self.done else b""

    def finish(self) -> None:
        """To be called after the last piece: the archive has to be whole, and nothing may follow it."""
        if not self.done:
            raise NarError(f"the NAR is cut: it ends after {self._base + len(self._rest)} bytes")
        if self.unused:
            raise NarError(f"bytes follow after the end of the NAR at {self._base}")

    def listing(self) -> dict[str, Any] | None:
        """What the archive holds, in the form of a cache's `.ls` file; None as for `listing_json`."""
        text = self.listing_json()
        return None if text is None else json.loads(text)

    def listing_json(self) -> bytes | None:
        """The listing as JSON; None when it would pass its limit, or when a name or target is not UTF-8."""
        if not self.done:
            raise NarError("the NAR has no listing before its end")
        return self._listing.json()

    def _walk(self, buffer: bytes) -> int:
        """Takes as many steps as the buffer allows."""
        at = 0
        while not self.done and (after := self._step(buffer, at)) >= 0:
            at = after
        return at

    def _pass_content(self, data: Buffer) -> Buffer:
        taken = min(len(data), self._content)
        view = memoryview(data)
        if self._sink is not None:
            self._sink.data(view[:taken])
        self._content -= taken
        self._base += taken
        return view[taken:]

    # The steps. Each takes the buffer and a place in it, and returns the place after what it read, or -1 when
    # what it needs is not all there yet.

    def _start(self, buffer: bytes, at: int) -> int:
        if not self._has(buffer, at, _MAGIC):
            return -1
        self._step = self._node
        return at + len(_MAGIC)

    def _node(self, buffer: bytes, at: int) -> int:
        if not self._has(buffer, at, _OPEN):
            return -1
        at += len(_OPEN)
        if buffer.startswith(_REGULAR, at):
            return self._regular(buffer, at + len(_REGULAR), executable=False)
        if buffer.startswith(_DIRECTORY, at):
            return self._directory(at + len(_DIRECTORY))
        if buffer.startswith(_SYMLINK, at):
            return self._symlink(buffer, at + len(_SYMLINK))
        if buffer.startswith(_EXECUTABLE, at):
            return self._regular(buffer, at + len(_EXECUTABLE), executable=True)
        rest = buffer[at : at + len(_EXECUTABLE)]
        if not any(kind.startswith(rest) for kind in (_REGULAR, _DIRECTORY, _SYMLINK, _EXECUTABLE)):
            raise self._error(at, "something that is neither a file, a directory nor a symbolic link")
        return -1

    def _regular(self, buffer: bytes, at: int, *, executable: bool) -> int:
        if len(buffer) < at + 8:
            return -1
        (size,) = _read_u64(buffer, at)
        if size > MAX_SIZE:
            raise self._error(at, f"a file of {size} bytes")
        at += 8
        self._listing.regular(size, self._base + at, executable=executable)
        if self._sink is not None:
            self._sink.regular(size, executable)
        self._padding = bytes(-size % 8)
        self._step = self._file_end
        present = min(size, len(buffer) - at)
        if self._sink is not None and present:
            self._sink.data(memoryview(buffer)[at : at + present])
        self._content = size - present
        return at + present

    def _file_end(self, buffer: bytes, at: int) -> int:
        if self._content:
            return -1
        end = self._padding + _CLOSE
        if not self._has(buffer, at, end):
            return -1
        self._end_of_node()
        return at + len(end)

    def _symlink(self, buffer: bytes, at: int) -> int:
        if len(buffer) < at + 8:
            return -1
        (size,) = _read_u64(buffer, at)
        if not 0 < size <= MAX_TARGET:
            raise self._error(at, f"a symbolic link with a target of {size} bytes")
        start, at = at + 8, at + 8 + size
        if len(buffer) < at:
            return -1
        target = buffer[start:at]
        if b"\0" in target:
            raise self._error(start, "a symbolic link with a zero byte in its target")
        end = bytes(-size % 8) + _CLOSE
        if not self._has(buffer, at, end):
            return -1
        self._listing.symlink(target)
        if self._sink is not None:
            self._sink.symlink(target)
        self._end_of_node()
        return at + len(end)

    def _directory(self, at: int) -> int:
        if len(self._names) == MAX_DEPTH:
            raise self._error(at, f"directories more than {MAX_DEPTH} deep")
        self._names.append(b"")
        self._listing.directory()
        if self._sink is not None:
            self._sink.directory()
        self._step = self._entry
        return at

    def _entry(self, buffer: bytes, at: int) -> int:
        if not buffer.startswith(_ENTRY, at):
            return self._directory_end(buffer, at)
        start = at + len(_ENTRY)
        if len(buffer) < start + 8:
            return -1
        (size,) = _read_u64(buffer, start)
        if size > MAX_NAME:
            raise self._error(start, f"a name of {size} bytes")
        name = buffer[start + 8 : start + 8 + size]
        node = bytes(-size % 8) + _NODE
        # A name that is not all there cannot be followed by the rest, so this finds that out too.
        if not self._has(buffer, start + 8 + size, node):
            return -1
        if name in _FORBIDDEN_NAMES or b"/" in name or b"\0" in name:
            raise self._error(start, f"an entry that may not be called {name!r}")
        if name <= self._names[-1]:
            raise self._error(start, f"{name!r} after {self._names[-1]!r}, out of order")
        self._listing.entry(name, first=not self._names[-1])
        self._names[-1] = name
        if self._sink is not None:
            self._sink.entry(name)
        self._step = self._node
        return start + 8 + size + len(node)

    def _directory_end(self, buffer: bytes, at: int) -> int:
        rest = buffer[at : at + len(_ENTRY)]
        if not rest.startswith(_CLOSE):
            if not _ENTRY.startswith(rest) and not _CLOSE.startswith(rest):
                raise self._error(at, "neither an entry nor the end of a directory")
            return -1
        self._names.pop()
        self._listing.end_of_directory()
        if self._sink is not None:
            self._sink.end()
        self._after_node()
        return at + len(_CLOSE)

    def _entry_end(self, buffer: bytes, at: int) -> int:
        if not self._has(buffer, at, _CLOSE):
            return -1
        self._step = self._entry
        return at + len(_CLOSE)

    def _end_of_node(self) -> None:
        if self._sink is not None:
            self._sink.end()
        self._after_node()

    def _after_node(self) -> None:
        if self._names:
            self._step = self._entry_end
        else:
            self.done = True

    def _has(self, buffer: bytes, at: int, wanted: bytes) -> bool:
        """Whether `wanted` stands there; False when the buffer ends first, an error where it differs."""
        if buffer.startswith(wanted, at):
            return True
        if at < len(buffer) and not wanted.startswith(buffer[at : at + len(wanted)]):
            raise self._error(at, f"{buffer[at : at + len(wanted)][:40]!r} where {wanted[:40]!r} belongs")
        return False

    def _error(self, at: int, found: str) -> NarError:
        return NarError(f"not a NAR: at byte {self._base + at} it has {found}")


class NarWriter:
    """Turns the events of a walk over a tree into the bytes of its NAR.

    Call `regular`, `symlink` or `directory` for the root; in a directory `entry` before each child, sorted. A
    file's contents go through `data`, as many pieces as wanted. Each of the three is closed by `end`.
    Every call returns bytes to be written.
    """

    def __init__(self) -> None:
        self.done = False
        self._head = _MAGIC
        self._names: list[bytes] = []
        self._content: int | None = None  # of the open file, what is still to come
        self._padding = b""
        self._in_link = False
        self._wants_node = True

    def regular(self, size: int, executable: bool = False) -> bytes:
        head = self._begin_node()
        self._content = size
        self._padding = bytes(-size % 8)
        return head + (_EXECUTABLE if executable else _REGULAR) + _U64.pack(size)

    def data(self, piece: Buffer) -> Buffer:
        """The piece itself, counted: the file has to become exactly as long as was said."""
        if self._content is None or len(piece) > self._content:
            raise NarError("more data than the file was said to have")
        self._content -= len(piece)
        return piece

    def skip(self, count: int) -> None:
        """As many bytes of the open file, which somebody else puts there."""
        if self._content is None or count > self._content:
            raise NarError("more data than the file was said to have")
        self._content -= count

    def symlink(self, target: bytes) -> bytes:
        if not 0 < len(target) <= MAX_TARGET or b"\0" in target:
            raise NarError(f"a symbolic link cannot have the target {target[:100]!r}")
        head = self._begin_node()
        self._in_link = True
        return head + _SYMLINK + token(target)

    def directory(self) -> bytes:
        if len(self._names) == MAX_DEPTH:
            raise NarError(f"the directories are more than {MAX_DEPTH} deep")
        head = self._begin_node()
        self._names.append(b"")
        return head + _DIRECTORY

    def entry(self, name: bytes) -> bytes:
        if not self._names or self._wants_node or self._content is not None or self._in_link:
            raise NarError("an entry belongs into an open directory")
        if name in _FORBIDDEN_NAMES or len(name) > MAX_NAME or b"/" in name or b"\0" in name:
            raise NarError(f"an entry may not be called {name[:300]!r}")
        if name <= self._names[-1]:
            raise NarError(f"the entry {name!r} comes after {self._names[-1]!r}, out of order")
        self._names[-1] = name
        self._wants_node = True
        return _ENTRY + token(name) + _NODE

    def end(self) -> bytes:
        """Ends the open file or link, or else the open directory."""
        if self._wants_node:
            raise NarError("there is nothing to end")
        closing = _CLOSE
        if self._content is not None:
            if self._content:
                raise NarError(f"the file is {self._content} bytes shorter than it was said to be")
            closing = self._padding + _CLOSE
        elif not self._in_link:
            self._names.pop()
        self._content, self._in_link = None, False
        if self._names:
            return closing + _CLOSE
        self.done = True
        self._wants_node = True
        return closing

    def _begin_node(self) -> bytes:
        if not self._wants_node or self.done:
            raise NarError("there is no place for a file, a link or a directory here")
        head, self._head = self._head + _OPEN, b""
        self._wants_node = False
        return head
