"""Requirements with Cargo's grammar: a comma list of comparators that a version must all meet.

A bare version means caret. A pre-release matches only where some comparator names a pre-release of the same
three numbers. Build metadata is read and has no say in matching. Must never guess at what Cargo refuses.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from piste.semver.version import MAX_NUMBER, Triple, Version, VersionError, triple_key

MAX_COMPARATORS: Final = 32
# Room for 32 long comparators; what is longer comes from no person.
MAX_LENGTH: Final = 4096

# A half-open range of sort keys: from the first (None: the lowest) up to, without, the second (None: no end).
Interval = tuple[bytes | None, bytes | None]


class RequirementError(ValueError):
    """The text is not a requirement; the message says where and why."""


class Op(StrEnum):
    EXACT = "="
    GREATER = ">"
    GREATER_EQ = ">="
    LESS = "<"
    LESS_EQ = "<="
    TILDE = "~"
    CARET = "^"
    WILDCARD = "*"  # 1.* and 1.2.* without an operator


@dataclass(frozen=True, slots=True)
class Comparator:
    """One condition. `minor` or `patch` None: not said, or a wildcard. `build` is kept to be shown."""

    op: Op
    major: int
    minor: int | None = None
    patch: int | None = None
    pre: str = ""
    build: str = ""

    def matches(self, version: Version) -> bool:
        """Whether this condition alone holds, pre-releases taken as plain versions."""
        return _MATCHERS[self.op](self, version)

    @property
    def prerelease_triple(self) -> Triple | None:
        """The three numbers whose pre-releases this comparator lets in, if any."""
        if not self.pre or self.minor is None or self.patch is None:
            return None
        return (self.major, self.minor, self.patch)

    @property
    def floor(self) -> Triple:
        """The lowest three numbers that begin with what is said."""
        return (self.major, self.minor or 0, self.patch or 0)

    def __str__(self) -> str:
        operator = "" if self.op is Op.WILDCARD else self.op.value
        numbers = ".".join(str(n) for n in (self.major, self.minor, self.patch) if n is not None)
        star = ".*" if self.op is Op.WILDCARD else ""
        pre = f"-{self.pre}" if self.pre else ""
        build = f"+{self.build}" if self.build else ""
        return f"{operator}{numbers}{star}{pre}{build}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A parsed requirement; no comparators means `*`."""

    comparators: tuple[Comparator, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Cargo's grammar and nothing else."""
        if len(text) > MAX_LENGTH:
            raise RequirementError(f"a requirement of {len(text)} characters is too long")
        return cls(tuple(_Parser(text).comparators()))

    @classmethod
    def from_url(cls, text: str) -> Self:
        """As `parse`, after taking off what addresses and tags add: `.tar.gz`, and a `v` before a version."""
        return cls.parse(strip_url_form(text))

    def matches(self, version: Version) -> bool:
        if not all(comparator.matches(version) for comparator in self.comparators):
            return False
        return not version.pre or version.triple in self.prerelease_triples()

    def prerelease_triples(self) -> list[Triple]:
        """The (major, minor, patch) that a matching pre-release must have; empty when none can match."""
        return sorted({t for c in self.comparators if (t := c.prerelease_triple) is not None})

    def intervals(self) -> list[Interval]:
        """Ranges of sort keys that hold every version that matches, and no release that does not.

        One range, or none when no version can match.
        """
        low, high = b"", None
        for comparator in self.comparators:
            at_least, below = _bounds(comparator)
            low = max(low, at_least)
            if below is not None:
                high = below if high is None else min(high, below)
        return [] if high is not None and low >= high else [(low or None, high)]

    def exact_version(self) -> Version | None:
        """The version that is asked for by `=` and all three numbers, with the metadata given; else None."""
        if len(self.comparators) != 1:
            return None
        only = self.comparators[0]
        if only.op is not Op.EXACT or only.minor is None or only.patch is None:
            return None
        return Version(only.major, only.minor, only.patch, only.pre, only.build)

    def __str__(self) -> str:
        return ", ".join(str(comparator) for comparator in self.comparators) or "*"


def strip_url_form(text: str) -> str:
    """The requirement within an address: without `.tar.gz` at its end and a `v` before its first version."""
    stripped = text.strip(" ").removesuffix(".tar.gz")
    return re.sub(r"^(=? *)[vV](?=[0-9])", r"\1", stripped)


def exact_version(text: str) -> Version | None:
    """The version of an exact requirement: `=`, an optional `v`, a full version; None for anything else."""
    match = re.fullmatch(r" *= *v?([0-9][^ ]*) *", text)
    if match is None:
        return None
    try:
        return Version.parse(match[1])
    except VersionError:
        return None


# What one comparator means. The three numbers are compared first, as far as they are said; the pre-release
# decides only where all that is said is equal, and what is not said counts as "no pre-release".


def _pre_order(version: Version, comparator: Comparator) -> int:
    """-1, 0 or 1: the version's pre-release against the comparator's, the numbers set aside."""
    left = Version(0, 0, 0, version.pre).sort_key()
    right = Version(0, 0, 0, comparator.pre).sort_key()
    return (left > right) - (left < right)


def _order(version: Version, comparator: Comparator) -> int | None:
    """-1, 0 or 1 like a comparison; None when the version only begins with the numbers that are said."""
    said = (comparator.major, comparator.minor, comparator.patch)
    for mine, wanted in zip(version.triple, said, strict=True):
        if wanted is None:
            return None
        if mine != wanted:
            return 1 if mine > wanted else -1
    return _pre_order(version, comparator)


def _is_exact(comparator: Comparator, version: Version) -> bool:
    order = _order(version, comparator)
    return order == 0 or (order is None and not version.pre)


def _is_greater(comparator: Comparator, version: Version) -> bool:
    return _order(version, comparator) == 1


def _is_less(comparator: Comparator, version: Version) -> bool:
    return _order(version, comparator) == -1


def _is_tilde(comparator: Comparator, version: Version) -> bool:
    if version.triple >= _successor(comparator.floor, 0 if comparator.minor is None else 1):
        return False
    return _is_exact(comparator, version) or _is_greater(comparator, version)


def _is_caret(comparator: Comparator, version: Version) -> bool:
    if version.triple >= _successor(comparator.floor, _caret_position(comparator)):
        return False
    order = _order(version, comparator)
    # Unlike the tilde, a caret with numbers left out says nothing of pre-releases.
    return order is None or order >= 0


_MATCHERS: Final[dict[Op, Callable[[Comparator, Version], bool]]] = {
    Op.EXACT: _is_exact,
    Op.WILDCARD: _is_exact,
    Op.GREATER: _is_greater,
    Op.GREATER_EQ: lambda c, v: _is_exact(c, v) or _is_greater(c, v),
    Op.LESS: _is_less,
    Op.LESS_EQ: lambda c, v: _is_exact(c, v) or _is_less(c, v),
    Op.TILDE: _is_tilde,
    Op.CARET: _is_caret,
}


def _successor(triple: Triple, position: int) -> Triple:
    """The lowest triple above all that share the first `position + 1` numbers; it may be out of range."""
    raised = [*triple[:position], triple[position] + 1, 0, 0]
    return (raised[0], raised[1], raised[2])


def _caret_position(comparator: Comparator) -> int:
    """Which number a caret holds fast: the leftmost that is not zero, or the last that is said."""
    if comparator.major > 0 or comparator.minor is None:
        return 0
    if comparator.minor > 0 or comparator.patch is None:
        return 1
    return 2


def _said_position(comparator: Comparator) -> int:
    return 0 if comparator.minor is None else 1 if comparator.patch is None else 2


def _after(triple: Triple, position: int) -> bytes | None:
    """The key below which everything lies that shares the first numbers; None where no version is above."""
    for place in range(position, -1, -1):
        if triple[place] < MAX_NUMBER:
            return triple_key(_successor(triple, place))
    return None


def _bounds(comparator: Comparator) -> tuple[bytes, bytes | None]:
    """The range of sort keys of one comparator: from the first up to, without, the second."""
    floor, said = comparator.floor, _said_position(comparator)
    partial = said < 2
    # Numbers left out: the bare triple, below all of its pre-releases. All said: the one key.
    start = triple_key(floor) if partial else Version(*floor, comparator.pre).sort_key()
    # No key is the beginning of another, so that one byte more is the next thing above a full key.
    end = _after(floor, said) if partial else start + b"\x00"
    no_end: tuple[bytes, None] = (start, None)
    match comparator.op:
        case Op.EXACT | Op.WILDCARD:
            return (start, end)
        case Op.GREATER:
            return (end, None) if end is not None else (_ABOVE_ALL, None)
        case Op.GREATER_EQ:
            return no_end
        case Op.LESS:
            return (b"", start)
        case Op.LESS_EQ:
            return (b"", end)
        case Op.TILDE:
            return (start, _after(floor, min(said, 1)))
        case Op.CARET:
            return (start, _after(floor, _caret_position(comparator)))


_ABOVE_ALL: Final = triple_key((MAX_NUMBER, MAX_NUMBER, MAX_NUMBER)) + b"\xff\x00"


class _Parser:
    """Reads one requirement from left to right; what it meets decides, so that errors can name the place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def comparators(self) -> list[Comparator]:
        self._spaces()
        if self._take(r"[*xX]"):
            self._lone_wildcard()
            return []
        found = [self._comparator()]
        while self.at < len(self.text):
            if not self._take(","):
                raise self._error("a comma must stand between two conditions", self.at)
            if len(found) == MAX_COMPARATORS:
                raise RequirementError(f"a requirement has at most {MAX_COMPARATORS} conditions")
            self._spaces()
            found.append(self._comparator())
        return found

    def _lone_wildcard(self) -> None:
        self._spaces()
        if self.at < len(self.text):
            raise self._error("a wildcard in the first place must stand alone, as in `*`", self.at)

    def _comparator(self) -> Comparator:
        operator = self._take(r">=|<=|[=><~^]")
        op = Op(operator) if operator else Op.CARET
        self._spaces()
        major = self._number("major")
        wild = False
        minor = patch = None
        if self._take(r"\."):
            wild = self._take(r"[*xX]") is not None
            minor = None if wild else self._number("minor")
            if self._take(r"\."):
                third_is_wild = self._take(r"[*xX]") is not None
                if wild and not third_is_wild:
                    raise self._error("after a wildcard only another wildcard may follow", self.at)
                patch = None if third_is_wild else self._number("patch")
                wild = wild or third_is_wild
        if wild and not operator:
            op = Op.WILDCARD
        pre = self._identifiers("-", "pre-release") if patch is not None else ""
        build = self._identifiers(r"\+", "build metadata") if patch is not None else ""
        self._spaces()
        return Comparator(op, major, minor, patch, pre, build)

    def _number(self, which: str) -> int:
        start = self.at
        digits = self._take(r"[0-9]+")
        if digits is None:
            if self._take(r"[*xX]"):
                raise self._error(f"a wildcard cannot stand for the {which} number of a condition", start)
            raise self._error(f"the {which} number is missing", start)
        if len(digits) > 1 and digits.startswith("0"):
            raise self._error(f"the {which} number may not begin with a zero", start)
        if int(digits) > MAX_NUMBER:
            raise self._error(f"the {which} number is above {MAX_NUMBER}", start)
        return int(digits)

    def _identifiers(self, sign: str, what: str) -> str:
        start = self.at
        if not self._take(sign):
            return ""
        text = self._take(r"[0-9A-Za-z.-]+") or ""
        for identifier in text.split("."):
            if not identifier:
                raise self._error(f"the {what} has an empty part", start)
            if sign == "-" and identifier.isdigit() and len(identifier) > 1 and identifier.startswith("0"):
                raise self._error(f"a number in the {what} may not begin with a zero", start)
        return text

    def _spaces(self) -> None:
        self._take(" *")

    def _take(self, pattern: str) -> str | None:
        match = re.compile(pattern).match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[0]

    def _error(self, reason: str, at: int) -> RequirementError:
        if not self.text.strip(" "):
            return RequirementError("the requirement is empty; write `*` for any release")
        rest = self.text[at:]
        place = f"at {rest[:20]!r}" if rest else "at the end"
        shown = self.text if len(self.text) <= 200 else self.text[:200] + "…"
        return RequirementError(f"{shown!r} is not a requirement: {reason} ({place}){_hint(self.text)}")


def _hint(text: str) -> str:
    if "||" in text:
        return "; alternatives with || do not exist here"
    if re.search(r"(^|[=><~^ ,])[vV][0-9]", text):
        return "; leave out the v before the version"
    if " - " in text:
        return "; write a range as `>=1.2, <2`"
    return ""
