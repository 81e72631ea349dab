"""Nix's own base 32: its own alphabet, and the digits of the little-endian number, highest first.

Must never accept a text that some other text decodes to as well: unused high bits have to be zero.
"""

from typing import Final

ALPHABET: Final = "0123456789abcdfghijklmnpqrsvwxyz"

_PAIRS: Final = [high + low for high in ALPHABET for low in ALPHABET]
# Python reads base 32 with 0-9a-v: translated to that, decoding is one call in C.
_TO_PYTHON: Final = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_MEMBERS: Final = frozenset(ALPHABET)


class Base32Error(ValueError):
    """The text is not nix32."""


def encoded_length(size: int) -> int:
    """How many characters `size` bytes take."""
    return (size * 8 + 4) // 5


def encode(data: bytes) -> str:
    length = encoded_length(len(data))
    number = int.from_bytes(data, "little")
    pairs = [_PAIRS[(number >> shift) & 1023] for shift in range((length - 1) // 2 * 10, -1, -10)]
    text = "".join(pairs)
    # An odd length leaves one zero digit in front.
    return text[len(text) - length :]


def decode(text: str) -> bytes:
    if not _MEMBERS.issuperset(text):
        wrong = next(c for c in text if c not in _MEMBERS)
        raise Base32Error(
            f"{wrong!r} is not a character of nix32 (digits and small letters but e, o, t and u)"
        )
    size = len(text) * 5 // 8
    if encoded_length(size) != len(text):
        raise Base32Error(f"no number of bytes takes {len(text)} characters of nix32")
    number = int(text.translate(_TO_PYTHON), 32) if text else 0
    if number >> (size * 8):
        raise Base32Error("the nix32 text has bits beyond its last byte")
    return number.to_bytes(size, "little")
