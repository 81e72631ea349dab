"""Finds the hash parts of store paths in the bytes of a NAR, as Nix does to learn what a build refers to.

Every place counts, not only after `/nix/store/`, and the pieces may be cut anywhere. Must never take long,
whatever the bytes are, since publishers choose them: a billion zeros take seconds.
"""

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Final

from piste.nix import base32
from piste.nix.store_path import HASH_PART_LENGTH, parse_hash_part

Buffer = bytes | memoryview

_ALPHABET: Final = base32.ALPHABET.encode()
# One where a byte may stand in a hash part, else zero: a run of 32 ones is then found by a search in C.
_MASK: Final = bytes(1 if byte in _ALPHABET else 0 for byte in range(256))
_RUN: Final = b"\1" * HASH_PART_LENGTH
_OVERLAP: Final = HASH_PART_LENGTH - 1
# Looked at in one go; bounds the memory that one large piece takes.
_SLICE: Final = 1 << 20
# With more than one run in so many bytes it is cheaper to look at all, in groups of eight, than at runs.
_DENSE: Final = 512
_GROUP: Final = 8


class KnownHashParts:
    """What scanners look for. Made once and shared by the scanners of many NARs."""

    def __init__(self, hash_parts: Collection[bytes | str]) -> None:
        self.hash_parts = frozenset(_as_bytes(hash_part) for hash_part in hash_parts)

    @cached_property
    def groups(self) -> dict[int, tuple[bytes, ...]]:
        return _groups_of(self.hash_parts)


class ReferenceScanner:
    """Looks for hash parts that are known; `found` grows while pieces are fed."""

    def __init__(self, known: Collection[bytes | str] | KnownHashParts) -> None:
        self.found: set[str] = set()
        self._shared = known if isinstance(known, KnownHashParts) else KnownHashParts(known)
        self._known = self._shared.hash_parts
        self._tail = b""

    def feed(self, data: Buffer) -> None:
        if not self._known or len(self.found) == len(self._known):
            return
        for buffer in _slices(self._tail, data):
            runs = buffer.translate(_MASK)
            count = runs.count(_RUN)
            if count * _DENSE > len(buffer):
                self._scan_dense(buffer)
            elif count:
                for start, end in _runs(runs):
                    self._scan_run(buffer, start, end)
            self._tail = buffer[-_OVERLAP:]

    def _scan_run(self, buffer: bytes, start: int, end: int) -> None:
        windows = range(start, end - _OVERLAP)
        self._add(self._known.intersection([buffer[at : at + HASH_PART_LENGTH] for at in windows]))

    def _scan_dense(self, buffer: bytes) -> None:
        """Any 32 bytes hold a whole group of eight, wherever groups begin: so only groups are looked up."""
        owners = self._shared.groups
        groups = memoryview(buffer)[: len(buffer) // _GROUP * _GROUP].cast("Q")
        for place in [place for place, group in enumerate(groups) if group in owners]:
            at = place * _GROUP
            nearby = buffer[max(0, at - _GROUP + 1) : at + HASH_PART_LENGTH]
            self._add(hash_part for hash_part in owners[groups[place]] if hash_part in nearby)

    def _add(self, hash_parts: Iterable[bytes]) -> None:
        self.found.update(hash_part.decode() for hash_part in hash_parts)


def _slices(tail: bytes, data: Buffer) -> Iterator[bytes]:
    """The data in bounded slices, each with the end of the one before, so that no window is lost between."""
    view = memoryview(data)
    for start in range(0, len(view), _SLICE):
        buffer = tail + view[start : start + _SLICE]
        yield buffer
        tail = buffer[-_OVERLAP:]


def _runs(mask: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of every stretch of at least 32 bytes of the alphabet."""
    at = mask.find(_RUN)
    while at >= 0:
        end = mask.find(b"\0", at + HASH_PART_LENGTH)
        end = len(mask) if end < 0 else end
        yield at, end
        at = mask.find(_RUN, end)


def _groups_of(known: Iterable[bytes]) -> dict[int, tuple[bytes, ...]]:
    """Every eight bytes that the known hash parts hold → the hash parts that hold them."""
    groups: dict[int, tuple[bytes, ...]] = {}
    for hash_part in known:
        owner = (hash_part,)
        # One of the first eight groups is met wherever the hash part stands.
        for at in range(_GROUP):
            number = memoryview(hash_part)[at : at + _GROUP].cast("Q")[0]
            others = groups.get(number)
            groups[number] = owner if others is None else others + owner
    return groups


def _as_bytes(hash_part: bytes | str) -> bytes:
    text = hash_part.decode("ascii", "replace") if isinstance(hash_part, bytes) else hash_part
    return parse_hash_part(text).encode()
