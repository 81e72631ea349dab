"""Reading a tar archive as it streams by, without ever writing one of its files: ustar, GNU long names and
pax.

It gives what an entry says of itself and the contents of the few files that are asked for. Everything is
bounded; what is not plainly an archive of files, folders and links is refused. It must never resolve a name
against a file system.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
EXTENSION_LIMIT: Final = 64 * 1024  # of a long name or a pax header
ENTRY_LIMIT: Final = 200_000
NAME_LIMIT: Final = 4096
PART_LIMIT: Final = 255
DEPTH_LIMIT: Final = 64

_REGULAR: Final = frozenset({b"0", b"\0", b"7"})
_KINDS: Final = {b"5": "directory", b"2": "symlink", b"1": "hardlink"}


class TarError(ValueError):
    """The bytes are not an archive that can be accepted."""


@dataclass(frozen=True)
class Entry:
    """One member; `name` is relative, without `.` and without a slash at its end."""

    name: str
    kind: str  # regular, directory, symlink, hardlink
    size: int
    target: str


class TarReader:
    """Feed it plain tar bytes; `visit` is called for each entry and says whether its contents are wanted (how
    many bytes at most); `collect` gets them.
    """

    def __init__(self, visit: Callable[[Entry], int], collect: Callable[[Entry, bytes], None]) -> None:
        self._visit = visit
        self._collect = collect
        self._block = b""
        self._left = 0  # bytes of the current member that are still to come
        self._padding = 0
        self._entry: Entry | None = None  # whose contents are collected
        self._extension = b""  # type of the extension that is read
        self._held: list[bytes] = []
        self._long_name: str | None = None
        self._long_target: str | None = None
        self._zero_blocks = 0
        self.entries = 0

    def feed(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._left:
                piece, rest = rest[: self._left], rest[self._left :]
                self._left -= len(piece)
                if self._entry is not None or self._extension:
                    self._held.append(bytes(piece))
                if not self._left:
                    self._end_of_contents()
            elif self._padding:
                skipped = min(self._padding, len(rest))
                self._padding -= skipped
                rest = rest[skipped:]
            else:
                wanted = BLOCK - len(self._block)
                self._block += bytes(rest[:wanted])
                rest = rest[wanted:]
                if len(self._block) == BLOCK:
                    block, self._block = self._block, b""
                    self._header(block)

    def finish(self) -> None:
        if self._left or self._padding or self._block:
            raise TarError("the archive is cut short")
        if not self._zero_blocks:
            raise TarError("the archive has no end")

    def _header(self, block: bytes) -> None:
        if not block.strip(b"\0"):
            self._zero_blocks += 1
            return
        if self._zero_blocks:
            raise TarError("there is something after the end of the archive")
        if _number(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * 32:
            raise TarError("a header has a wrong checksum")
        kind, size = block[156:157], _number(block[124:136])
        self._left, self._padding = size, -size % BLOCK
        if kind in (b"L", b"K", b"x", b"g"):
            if size > EXTENSION_LIMIT:
                raise TarError(f"a header is larger than {EXTENSION_LIMIT} bytes")
            self._extension, self._held = kind, []
            if not size:
                self._end_of_contents()
            return
        self._member(block, kind)

    def _member(self, block: bytes, kind: bytes) -> None:
        self.entries += 1
        if self.entries > ENTRY_LIMIT:
            raise TarError(f"the archive has more than {ENTRY_LIMIT} entries")
        name = self._long_name if self._long_name is not None else _header_name(block)
        target = self._long_target if self._long_target is not None else _text(block[157:257])
        self._long_name = self._long_target = None
        if kind in _REGULAR:
            # Archives from before ustar mark a folder by a slash at the end of its name.
            word = "directory" if name.endswith("/") else "regular"
        elif kind in _KINDS:
            word = _KINDS[kind]
        else:
            raise TarError(f"{name!r} is neither a file, a folder nor a link")
        if word != "regular" and self._left:
            raise TarError(f"{name!r} has contents though it is no file")
        entry = Entry(clean_name(name), word, self._left, target)
        self._held = []
        self._entry = entry if self._visit(entry) >= entry.size and word == "regular" else None
        if self._entry is not None and not self._left:
            self._end_of_contents()

    def _end_of_contents(self) -> None:
        data, self._held = b"".join(self._held), []
        if self._entry is not None:
            entry, self._entry = self._entry, None
            self._collect(entry, data)
            return
        kind, self._extension = self._extension, b""
        if kind == b"L":
            self._long_name = _text(data)
        elif kind == b"K":
            self._long_target = _text(data)
        elif kind == b"x":
            self._pax(data)

    def _pax(self, data: bytes) -> None:
        while data:
            digits, space, rest = data.partition(b" ")
            if not space or not digits.isdigit() or len(digits) > 6:
                raise TarError("a pax header can't be read")
            length = int(digits) - len(digits) - 1
            record, data = rest[:length], rest[length:]
            key, equals, value = record[:-1].partition(b"=")
            if length < 1 or len(record) != length or not record.endswith(b"\n") or not equals:
                raise TarError("a pax header can't be read")
            if key == b"path":
                self._long_name = _text(value)
            elif key == b"linkpath":
                self._long_target = _text(value)
            elif key == b"size" or key.startswith(b"GNU.sparse."):
                # A size beside the header's (8 GiB and more) and files with holes have no place in a source.
                raise TarError("the archive uses an extension that is not accepted here")


def clean_name(name: str) -> str:
    """The name without `./` and without a slash at its end; TarError when it could leave its folder."""
    if len(name.encode("utf-8", "surrogateescape")) > NAME_LIMIT:
        raise TarError(f"a name is longer than {NAME_LIMIT} bytes")
    if name.startswith("/") or "\0" in name:
        raise TarError(f"{name[:100]!r} is not a name inside the archive")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TarError(f"{name[:100]!r} tries to leave its folder")
    if len(parts) > DEPTH_LIMIT:
        raise TarError(f"a name has more than {DEPTH_LIMIT} parts")
    if any(len(part.encode("utf-8", "surrogateescape")) > PART_LIMIT for part in parts):
        raise TarError(f"a part of a name is longer than {PART_LIMIT} bytes")
    return "/".join(parts)


def _header_name(block: bytes) -> str:
    name = _text(block[:100])
    # Only POSIX headers have the prefix; GNU's keep times in its place.
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    text = field.strip(b" \0")
    if not text:
        return 0
    if len(text) > 12 or not set(text) <= set(b"01234567"):
        raise TarError("a header has no number where one should be")
    return int(text, 8)
