"""The daemon's protocol as bytes: what to send for each operation, and how to read what comes back.

No sockets and no processes here: a caller writes the bytes that these functions return, and hands in
something with `read`. Speaks 1.34 (Nix 2.8) to 1.38. Must never trust a length that the other side names.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from piste.nix.hashes import Hash, HashError
from piste.nix.narinfo import NarInfoError, PathInfo
from piste.nix.store_path import StorePath, StorePathError

Version = tuple[int, int]

NEWEST: Final[Version] = (1, 38)
OLDEST: Final[Version] = (1, 34)

_CLIENT_MAGIC: Final = 0x6E697863
_SERVER_MAGIC: Final = 0x6478696F
_U64: Final = struct.Struct("<Q")

# A path info of ten thousand references is 700 kB. Longer strings and lists are mistakes or attacks.
MAX_STRING: Final = 16 * 1024 * 1024
MAX_ITEMS: Final = 1_000_000


class Op(IntEnum):
    IS_VALID_PATH = 1
    ENSURE_PATH = 10
    ADD_TEMP_ROOT = 11
    ADD_INDIRECT_ROOT = 12
    SET_OPTIONS = 19
    QUERY_PATH_INFO = 26
    QUERY_PATH_FROM_HASH_PART = 29
    QUERY_VALID_PATHS = 31
    ADD_SIGNATURES = 37
    NAR_FROM_PATH = 38
    ADD_TO_STORE_NAR = 39
    ADD_MULTIPLE_TO_STORE = 44


class Stderr(IntEnum):
    """What the daemon says before the result of an operation."""

    NEXT = 0x6F6C6D67
    READ = 0x64617461
    WRITE = 0x64617416
    LAST = 0x616C7473
    ERROR = 0x63787470
    START_ACTIVITY = 0x53545254
    STOP_ACTIVITY = 0x53544F50
    RESULT = 0x52534C54


class Trust(IntEnum):
    UNKNOWN = 0
    TRUSTED = 1
    NOT_TRUSTED = 2


class ProtocolError(ValueError):
    """The other side said something that the protocol does not have; the connection is of no use any more."""


class UnknownProtocolError(ProtocolError):
    """What the other side said is not wrong, but of a protocol that we do not speak."""


class DaemonError(Exception):
    """The daemon refused an operation, in its own words. The connection can be used further."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ByteSource(Protocol):
    """Where bytes come from: `read` gives at most `n` of them, and none only at the end."""

    def read(self, n: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the daemon says of itself after the handshake."""

    nix_version: str
    trust: Trust


@dataclass(frozen=True, slots=True)
class RegisteredPath:
    """A path that is valid in the daemon's store. `ultimate`: built here, not brought from elsewhere."""

    info: PathInfo
    registration_time: int
    ultimate: bool


# Primitives: all numbers are 64 bits, little-endian; strings are padded to a multiple of eight.


def pack_u64(number: int) -> bytes:
    return _U64.pack(number)


def pack_bool(value: bool) -> bytes:
    return _U64.pack(1 if value else 0)


def pack_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return _U64.pack(len(data)) + data + bytes(-len(data) % 8)


def pack_strings(texts: Iterable[str | bytes]) -> bytes:
    packed = [pack_string(text) for text in texts]
    return _U64.pack(len(packed)) + b"".join(packed)


def read_exactly(source: ByteSource, size: int) -> bytes:
    data = source.read(size)
    if len(data) == size:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing and data:
        data = source.read(missing)
        pieces.append(data)
        missing -= len(data)
    if missing:
        raise ProtocolError("the daemon closed the connection in the middle of an answer")
    return b"".join(pieces)


def read_u64(source: ByteSource) -> int:
    return int.from_bytes(read_exactly(source, 8), "little")


def read_bool(source: ByteSource) -> bool:
    return read_u64(source) != 0


def read_bytes(source: ByteSource, limit: int = MAX_STRING) -> bytes:
    size = read_u64(source)
    if size > limit:
        raise ProtocolError(f"the daemon sends a string of {size} bytes")
    data = read_exactly(source, size + -size % 8)
    if any(data[size:]):
        raise ProtocolError("the daemon pads a string with something else than zeros")
    return data[:size]


def read_string(source: ByteSource, limit: int = MAX_STRING) -> str:
    """A string as text; what is not UTF-8 (a log line may be anything) is shown as replacement characters."""
    return read_bytes(source, limit).decode("utf-8", "replace")


def read_strings(source: ByteSource) -> list[str]:
    return [read_string(source) for _ in range(_read_count(source))]


def _read_count(source: ByteSource) -> int:
    count = read_u64(source)
    if count > MAX_ITEMS:
        raise ProtocolError(f"the daemon sends a list of {count} items")
    return count


# Handshake: send `client_hello`, read with `read_server_hello`, from 1.38 send and read the features, send
# `client_hello_end`, read with `read_server_info`, and then the messages up to the last.


def client_hello(newest: Version = NEWEST) -> bytes:
    return pack_u64(_CLIENT_MAGIC) + pack_u64(newest[0] << 8 | newest[1])


def read_server_hello(source: ByteSource, newest: Version = NEWEST) -> Version:
    """The version to speak: the lower of the two sides'."""
    if read_u64(source) != _SERVER_MAGIC:
        raise UnknownProtocolError("what answers is not a Nix daemon")
    word = read_u64(source)
    offered = (word >> 8, word & 0xFF)
    if offered < OLDEST or offered[0] != NEWEST[0]:
        raise UnknownProtocolError(
            f"the daemon speaks protocol {offered[0]}.{offered[1]}, which is not understood"
        )
    return min(offered, newest)


def has_features(version: Version) -> bool:
    """Whether both sides now send their list of features, the client first."""
    return version >= (1, 38)


def client_hello_end() -> bytes:
    """No wish for a processor, no reserved space: both long obsolete, both still expected."""
    return pack_u64(0) + pack_u64(0)


def read_server_info(source: ByteSource, version: Version) -> ServerInfo:
    nix_version = read_string(source)
    number = read_u64(source) if version >= (1, 35) else Trust.UNKNOWN
    return ServerInfo(nix_version, Trust(number) if number in set(Trust) else Trust.UNKNOWN)


# Messages before a result


def read_stderr_until_last(source: ByteSource, on_line: Callable[[str], None] | None = None) -> None:
    """Passes over what the daemon says until the result comes; DaemonError when it says that it failed."""
    while True:
        word = read_u64(source)
        match word:
            case Stderr.LAST:
                return
            case Stderr.ERROR:
                raise DaemonError(_read_error(source))
            case Stderr.NEXT:
                line = read_string(source)
                if on_line is not None:
                    on_line(line)
            case Stderr.WRITE:
                read_bytes(source)
            case Stderr.START_ACTIVITY:
                _read_activity(source)
            case Stderr.STOP_ACTIVITY:
                read_u64(source)
            case Stderr.RESULT:
                read_exactly(source, 16)
                _read_fields(source)
            case _:
                raise UnknownProtocolError(f"the daemon sends a message of the unknown kind {word:#x}")


def _read_error(source: ByteSource) -> str:
    read_string(source)  # always "Error"
    read_u64(source)  # the level
    read_string(source)  # a name that is no longer used
    message = read_string(source)
    read_u64(source)  # has no position
    for _ in range(_read_count(source)):
        read_u64(source)
        message += "\n" + read_string(source)
    return message


def _read_activity(source: ByteSource) -> None:
    read_exactly(source, 24)  # id, level, type
    read_bytes(source)
    _read_fields(source)
    read_u64(source)  # the parent


def _read_fields(source: ByteSource) -> None:
    for _ in range(_read_count(source)):
        match read_u64(source):
            case 0:
                read_u64(source)
            case 1:
                read_bytes(source)
            case kind:
                raise ProtocolError(f"the daemon sends a field of the unknown kind {kind}")


# Path infos


def pack_path_info(info: PathInfo, *, registration_time: int = 0, ultimate: bool = False) -> bytes:
    """All of an info but its path."""
    deriver = "" if info.deriver is None else str(info.deriver)
    return b"".join(
        (
            pack_string(deriver),
            pack_string(info.nar_hash.hex()),
            pack_strings(str(path) for path in info.references),
            pack_u64(registration_time),
            pack_u64(info.nar_size),
            pack_bool(ultimate),
            pack_strings(info.signatures),
            pack_string(info.ca or ""),
        )
    )


def read_path_info(source: ByteSource, path: StorePath) -> RegisteredPath:
    deriver, nar_hash, references = read_string(source), read_string(source), read_strings(source)
    time, nar_size, ultimate = read_u64(source), read_u64(source), read_bool(source)
    signatures, ca = read_strings(source), read_string(source)
    try:
        info = PathInfo(
            path,
            Hash.parse(nar_hash, "sha256"),
            nar_size,
            tuple(StorePath.parse(reference) for reference in references),
            StorePath.parse(deriver) if deriver else None,
            tuple(signatures),
            ca or None,
        )
    except (StorePathError, HashError, NarInfoError) as error:
        raise ProtocolError(f"the daemon's answer on {path} is wrong: {error}") from None
    return RegisteredPath(info, time, ultimate)


# Operations: each request is sent whole; its answer is what the `read_` function says, after the messages.


def set_options(*, verbosity: int = 0, settings: Iterable[tuple[str, str]] = ()) -> bytes:
    """Answers nothing. Quiet, no fallback to building, no substitution but what `settings` say."""
    numbers = (Op.SET_OPTIONS, 0, 0, 0, verbosity, 1, 0, 1, 0, 0, 0, 0, 0)
    pairs = list(settings)
    packed = b"".join(pack_string(name) + pack_string(value) for name, value in pairs)
    return b"".join(map(pack_u64, numbers)) + pack_u64(len(pairs)) + packed


def is_valid_path(path: StorePath) -> bytes:
    """Answers a bool."""
    return pack_u64(Op.IS_VALID_PATH) + pack_string(str(path))


def add_temp_root(path: StorePath) -> bytes:
    """Answers 1. Keeps the path from the garbage collector while the connection lasts."""
    return pack_u64(Op.ADD_TEMP_ROOT) + pack_string(str(path))


def add_indirect_root(link: str) -> bytes:
    """Answers 1. What the link points to is kept for as long as it does."""
    return pack_u64(Op.ADD_INDIRECT_ROOT) + pack_string(link)


def query_path_info(path: StorePath) -> bytes:
    """Answers what `read_optional_path_info` reads."""
    return pack_u64(Op.QUERY_PATH_INFO) + pack_string(str(path))


def read_optional_path_info(source: ByteSource, path: StorePath) -> RegisteredPath | None:
    return read_path_info(source, path) if read_bool(source) else None


def query_path_from_hash_part(hash_part: str) -> bytes:
    """Answers a string, the path or nothing."""
    return pack_u64(Op.QUERY_PATH_FROM_HASH_PART) + pack_string(hash_part)


def query_valid_paths(paths: Iterable[StorePath], *, substitute: bool = False) -> bytes:
    """Answers strings: those of the paths that are valid."""
    texts = pack_strings(str(path) for path in paths)
    return pack_u64(Op.QUERY_VALID_PATHS) + texts + pack_bool(substitute)


def add_signatures(path: StorePath, signatures: Iterable[str]) -> bytes:
    """Answers 1. Only for a valid path: on another the daemons up to 2.34 crash."""
    return pack_u64(Op.ADD_SIGNATURES) + pack_string(str(path)) + pack_strings(signatures)


def nar_from_path(path: StorePath) -> bytes:
    """Answers the NAR itself, without its length: a NarParser tells where it ends.

    Ask before whether the path is valid: the daemon finds out only after it has promised the NAR.
    """
    return pack_u64(Op.NAR_FROM_PATH) + pack_string(str(path))


def add_to_store_nar(info: PathInfo, *, repair: bool = False, check_signatures: bool = True) -> bytes:
    """After this the NAR follows in frames, then END_OF_FRAMES. Answers nothing."""
    head = pack_u64(Op.ADD_TO_STORE_NAR) + pack_string(str(info.path)) + pack_path_info(info)
    return head + pack_bool(repair) + pack_bool(not check_signatures)


def add_multiple_to_store(*, repair: bool = False, check_signatures: bool = True) -> bytes:
    """Then follow, in frames: the count, each item's head and NAR; then END_OF_FRAMES. Answers nothing.

    The items must come after what they refer to.
    """
    return pack_u64(Op.ADD_MULTIPLE_TO_STORE) + pack_bool(repair) + pack_bool(not check_signatures)


def pack_item_head(info: PathInfo) -> bytes:
    """What stands before each NAR of `add_multiple_to_store`, inside the frames."""
    return pack_string(str(info.path)) + pack_path_info(info)


END_OF_FRAMES: Final = pack_u64(0)


def frame_head(size: int) -> bytes:
    """What stands before `size` bytes of a framed stream. No padding follows them."""
    if size <= 0:
        raise ValueError("an empty frame would end the stream")
    return pack_u64(size)
