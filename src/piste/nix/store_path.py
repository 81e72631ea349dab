"""Store paths: parsed before anything else looks at them, and computed from what they hold.

A text that is not exactly a store path never becomes one: no trailing slash, no file inside, no other store.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from piste.nix import base32
from piste.nix.hashes import Hash

STORE_DIR: Final = "/nix/store"
HASH_PART_LENGTH: Final = 32
MAX_NAME: Final = 211

# `.` and `..` are no names, and neither may stand before a dash.
_NAME_RULE: Final = rf"(?!\.\.?(?:-|$))[0-9a-zA-Z+?=._-]{{1,{MAX_NAME}}}"
_HASH_RULE: Final = rf"[{base32.ALPHABET}]{{{HASH_PART_LENGTH}}}"
_HASH_PART: Final = re.compile(_HASH_RULE)
_NAME: Final = re.compile(_NAME_RULE)
_BASE_NAME: Final = re.compile(f"{_HASH_RULE}-{_NAME_RULE}")


class StorePathError(ValueError):
    """The text is not a store path."""


@dataclass(frozen=True, slots=True, order=True)
class StorePath:
    """One path in the store. The order is that of the printed paths."""

    hash_part: str
    name: str

    def __post_init__(self) -> None:
        # One look for the usual case: closures have tens of thousands of references.
        whole = f"{self.hash_part}-{self.name}"
        if len(self.hash_part) != HASH_PART_LENGTH or not _BASE_NAME.fullmatch(whole):
            parse_hash_part(self.hash_part)
            check_name(self.name)

    def __hash__(self) -> int:
        # Enough to tell paths apart, and a third of the time of hashing both.
        return hash(self.hash_part)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a full path, `/nix/store/<hash part>-<name>`."""
        if not text.startswith(STORE_DIR + "/"):
            raise StorePathError(f"{_shown(text)} is not a store path: it is not in {STORE_DIR}")
        return cls.from_base_name(text[len(STORE_DIR) + 1 :])

    @classmethod
    def from_base_name(cls, text: str) -> Self:
        """Read `<hash part>-<name>`."""
        if text[HASH_PART_LENGTH : HASH_PART_LENGTH + 1] != "-":
            raise StorePathError(
                f"{_shown(text)} is not a store path: it needs a hash of 32 characters, a dash and a name"
            )
        return cls(text[:HASH_PART_LENGTH], text[HASH_PART_LENGTH + 1 :])

    @property
    def base_name(self) -> str:
        return f"{self.hash_part}-{self.name}"

    def __str__(self) -> str:
        return f"{STORE_DIR}/{self.hash_part}-{self.name}"


def parse_hash_part(text: str) -> str:
    """The text itself when it is a hash part; every look-up by hash part goes through here first."""
    if not _HASH_PART.fullmatch(text):
        raise StorePathError(f"{_shown(text)} is not the hash part of a store path")
    return text


def check_name(text: str) -> str:
    """The text itself when a store path may have it as its name."""
    if not _NAME.fullmatch(text):
        raise StorePathError(f"{_shown(text)} is not the name of a store path")
    return text


def make_store_path(type_: str, inner: Hash, name: str) -> StorePath:
    """The path of something of a type (with its references) whose inner hash is known."""
    check_name(name)
    text = f"{type_}:{inner.algorithm}:{inner.hex()}:{STORE_DIR}:{name}"
    digest = hashlib.sha256(text.encode()).digest()
    folded = bytearray(20)
    for index, byte in enumerate(digest):
        folded[index % 20] ^= byte
    return StorePath(base32.encode(bytes(folded)), name)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 300 else text[:300] + "…")
