"""The requirement grammar a second time: a regular expression for what can be read, and, for what matches,
the ranges that each comparator stands for, written out case by case from Cargo's documentation."""

import re
from collections.abc import Iterator

# A version as a tuple: the numbers, then (0, identifiers) for a pre-release or (1,) for a release.
Place = tuple[object, ...]
# From (included), to (not included), and whether only releases are meant.
Range = tuple[Place, Place, bool]

LOWEST: Place = (0, ())
RELEASE: Place = (1,)
END: Place = (float("inf"), 0, 0, LOWEST)
BEGIN: Place = (0, 0, 0, LOWEST)

_N = r"(?:0|[1-9][0-9]*)"
_W = r"[*xX]"
_PRE_PART = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PRE = rf"{_PRE_PART}(?:\.{_PRE_PART})*"
_BUILD = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_PARTS = rf"({_N})(?:\.(?:({_W})(?:\.{_W})?|({_N})(?:\.(?:({_W})|({_N})(?:-({_PRE}))?(?:\+{_BUILD})?))?))?"
COMPARATOR = re.compile(rf"(>=|<=|[=><~^])? *{_PARTS} *")
_PLAIN = re.sub(r"(?<!\\)\((?!\?)", "(?:", COMPARATOR.pattern)
REQUIREMENT = re.compile(rf" *(?:{_W} *|{_PLAIN}(?:, *{_PLAIN})*)")


def is_requirement(text: str) -> bool:
    if not REQUIREMENT.fullmatch(text) or text.count(",") > 31:
        return False
    without_words = re.sub(r"[-+][0-9A-Za-z.-]+(\+[0-9A-Za-z.-]+)?", "", text)
    return all(int(number) < 2**64 for number in re.findall("[0-9]+", without_words))


def place_of(version: str) -> Place:
    core, _, _ = version.partition("+")
    numbers, dash, pre = core.partition("-")
    major, minor, patch = (int(n) for n in numbers.split("."))
    return (major, minor, patch, pre_place(pre) if dash else RELEASE)


def pre_place(pre: str) -> Place:
    return (0, tuple((0, int(i), "") if i.isdigit() else (1, 0, i) for i in pre.split(".")))


def matches(requirement: str, version: str) -> bool:
    """Whether the version matches a requirement that can be read."""
    if re.fullmatch(rf" *{_W} *", requirement):
        return "-" not in version.partition("+")[0]
    place = place_of(version)
    allowed = place[3] == RELEASE
    for text in requirement.strip(" ").split(","):
        match = COMPARATOR.fullmatch(text.strip(" "))
        assert match is not None, text
        operator, major, first_wild, minor, second_wild, patch, pre = match.groups()
        numbers = [int(n) for n in (major, minor, patch) if n is not None]
        wild = first_wild or second_wild
        operator = operator or ("=" if wild else "^")
        if pre and place[:3] == tuple(numbers):
            allowed = True
        if not any(_in(place, one) for one in ranges(operator, numbers, pre or "")):
            return False
    return allowed


def _in(place: Place, one: Range) -> bool:
    start, end, only_releases = one
    return start <= place < end and (not only_releases or place[3] == RELEASE)


def ranges(operator: str, numbers: list[int], pre: str) -> Iterator[Range]:
    """The ranges of one comparator. `~` with a number left out is `=`, `^` is its documented table."""
    if len(numbers) == 3:
        yield from _full(operator, numbers, pre)
        return
    first: Place = (*numbers, *[0] * (3 - len(numbers)), LOWEST)
    after = _after(numbers, len(numbers) - 1)
    match operator:
        case "=" | "~":
            yield (first, after, True)
        case ">":
            yield (after, END, False)
        case ">=":
            yield (first, after, True)
            yield (after, END, False)
        case "<":
            yield (BEGIN, first, False)
        case "<=":
            yield (BEGIN, first, False)
            yield (first, after, True)
        case "^":
            yield (first, _after(numbers, 0 if numbers[0] or len(numbers) == 1 else 1), False)


def _full(operator: str, numbers: list[int], pre: str) -> Iterator[Range]:
    here: Place = (*numbers, pre_place(pre) if pre else RELEASE)
    # The next place above: one more empty word after the identifiers, or what follows a release.
    beyond: Place = (*numbers, (*here[3], ()) if pre else (2,))  # type: ignore[misc]
    match operator:
        case "=":
            yield (here, beyond, False)
        case ">":
            yield (beyond, END, False)
        case ">=":
            yield (here, END, False)
        case "<":
            yield (BEGIN, here, False)
        case "<=":
            yield (BEGIN, beyond, False)
        case "~":
            yield (here, _after(numbers, 1), False)
        case "^":
            leftmost = next((i for i, n in enumerate(numbers) if n), 2)
            yield (here, _after(numbers, leftmost), False)


def _after(numbers: list[int], position: int) -> Place:
    """The lowest place above everything that shares the numbers up to this position."""
    raised = [*numbers[:position], numbers[position] + 1]
    return (*raised, *[0] * (3 - len(raised)), LOWEST)
