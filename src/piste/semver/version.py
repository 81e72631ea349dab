"""Versions as SemVer 2.0.0 defines them: parsed strictly, ordered, with a key that a database can sort.

Must never accept what Cargo refuses: no leading `v`, no leading zeros, no missing numbers, no spaces.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

MAX_NUMBER: Final = 2**64 - 1
# Nothing real comes near; it keeps keys and messages small, and one byte is enough for a digit count.
MAX_LENGTH: Final = 256

Triple = tuple[int, int, int]

_NUMBER: Final = r"(0|[1-9][0-9]*)"
_PRE_IDENTIFIER: Final = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_BUILD_IDENTIFIER: Final = r"[0-9A-Za-z-]+"
_VERSION: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-({_PRE_IDENTIFIER}(?:\.{_PRE_IDENTIFIER})*))?"
    rf"(?:\+({_BUILD_IDENTIFIER}(?:\.{_BUILD_IDENTIFIER})*))?"
)
_ROLLING_BUILD: Final = re.compile(r"rev-([0-9a-f]{40})")

# After a triple, 0xff makes a release sort above every pre-release of it; 0x00 ends the identifiers, so that
# fewer sort lower; 0x02 before numbers and 0x03 before words puts numbers first.
_RELEASE: Final = b"\xff"
_PRE_RELEASE: Final = b"\x01"
_NUMERIC: Final = b"\x02"
_WORD: Final = b"\x03"
_END: Final = b"\x00"


class VersionError(ValueError):
    """The text is not a version."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `==` compares all of it; `<` and the others only precedence, without build metadata."""

    major: int
    minor: int
    patch: int
    pre: str = ""
    build: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        match = _VERSION.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if match is None:
            raise VersionError(_explain(text))
        major, minor, patch = int(match[1]), int(match[2]), int(match[3])
        if max(major, minor, patch) > MAX_NUMBER:
            raise VersionError(f"a number of the version {text} is above {MAX_NUMBER}")
        return cls(major, minor, patch, match[4] or "", match[5] or "")

    @classmethod
    def from_tag(cls, text: str) -> Self:
        """The version that a tag names: `v1.2.3` and `1.2.3` are the same one."""
        return cls.parse(text[1:] if re.match(r"[vV][0-9]", text) else text)

    @property
    def triple(self) -> Triple:
        return (self.major, self.minor, self.patch)

    @property
    def simplified(self) -> "Version":
        """The same version without build metadata."""
        return Version(self.major, self.minor, self.patch, self.pre)

    @property
    def is_prerelease(self) -> bool:
        return bool(self.pre)

    @property
    def rolling_revision(self) -> str | None:
        """The commit of a rolling version (`0.<minor>.<commit count>+rev-<40 hex>`), else None."""
        match = _ROLLING_BUILD.fullmatch(self.build)
        return match[1] if match and self.major == 0 and not self.pre else None

    @property
    def is_rolling(self) -> bool:
        return self.rolling_revision is not None

    def sort_key(self) -> bytes:
        """Bytes whose order is the order of precedence; equal exactly when the precedence is equal."""
        if not self.pre:
            return triple_key(self.triple) + _RELEASE
        identifiers = b"".join(_identifier_key(identifier) for identifier in self.pre.split("."))
        return triple_key(self.triple) + _PRE_RELEASE + identifiers + _END

    def __str__(self) -> str:
        pre = f"-{self.pre}" if self.pre else ""
        build = f"+{self.build}" if self.build else ""
        return f"{self.major}.{self.minor}.{self.patch}{pre}{build}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.sort_key() < other.sort_key()

    def __le__(self, other: object) -> bool:
        # Precedence, not `<` or `==`: equality sees the build metadata.
        if not isinstance(other, Version):
            return NotImplemented
        return self.sort_key() <= other.sort_key()

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.sort_key() >= other.sort_key()

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.sort_key() > other.sort_key()


def triple_key(triple: Triple) -> bytes:
    """The beginning that the sort keys of this triple's release and pre-releases have, and no other key."""
    return b"".join(number.to_bytes(8, "big") for number in triple)


def _identifier_key(identifier: str) -> bytes:
    text = identifier.encode("ascii")
    if identifier.isdigit():
        # No leading zeros, so that the longer number is the larger one.
        return _NUMERIC + bytes([len(text)]) + text
    return _WORD + text + _END


def _explain(text: str) -> str:
    if not text:
        return "a version is missing: the text is empty"
    if len(text) > MAX_LENGTH:
        return f"a version has at most {MAX_LENGTH} characters, this text has {len(text)}"
    if re.match(r"[vV][0-9]", text):
        return f"{text!r} is not a version: leave out the leading {text[0]!r}"
    core = re.split(r"[-+]", text, maxsplit=1)[0]
    if re.search(r"(^|\.)0[0-9]", core):
        return f"{text!r} is not a version: its numbers may not begin with a zero"
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", core):
        return f"{text!r} is not a version: it needs three numbers, as in 1.2.3"
    return f"{text!r} is not a version as SemVer defines it, such as 1.2.3, 1.2.3-beta.1 or 1.2.3+build"
