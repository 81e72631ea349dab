"""Ours against another's, in pairs: each time both, one right after the other, now this one first and now
that.

What a machine does beside slows both sides of a pair alike, so it is the ratio of each pair that counts, and
not how their medians compare. A bound is met when the worse quartile of the ratios meets it: three of four
pairs were at least as good.
"""

import json
import math
import platform
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

PAIRS: Final = 9
QUICK_PAIRS: Final = 2
_DIGITS: Final = 6
_NUMBERS: Final = re.compile(r"\[\s*([-+\d.eE,\s]+?)\s*\]")


class Kind(StrEnum):
    """What a ratio says, and which side of it is the better."""

    FASTER = "times faster"  # theirs / ours of times or sizes; more is better
    AT_MOST = "times as much"  # ours / theirs of times or sizes; less is better
    SHARE = "of theirs"  # ours / theirs of rates; more is better


@dataclass(frozen=True)
class Bound:
    """What is promised: `Bound(Kind.FASTER, 25)`, at least 25 times faster. Without a value it is only
    told."""

    kind: Kind
    value: float | None = None

    def ratio(self, ours: float, theirs: float) -> float:
        return theirs / ours if self.kind is Kind.FASTER else ours / theirs

    def worse_quartile(self, ratios: Sequence[float]) -> float:
        return quartile(ratios, 3 if self.kind is Kind.AT_MOST else 1)

    def is_met(self, ratios: Sequence[float]) -> bool | None:
        if self.value is None:
            return None
        worse = self.worse_quartile(ratios)
        return worse <= self.value if self.kind is Kind.AT_MOST else worse >= self.value

    def __str__(self) -> str:
        if self.value is None:
            return "–"
        return f"{'at most' if self.kind is Kind.AT_MOST else 'at least'} {self.value:.3g} {self.kind}"


@dataclass(frozen=True)
class Side:
    """One of a pair: a step does the whole of it and tells what it took."""

    name: str
    step: Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """The pairs of two sides under one condition, in one unit."""

    condition: str
    ours: str
    theirs: str
    unit: str
    bound: Bound
    pairs: list[tuple[float, float]]

    @property
    def ratios(self) -> list[float]:
        return [self.bound.ratio(ours, theirs) for ours, theirs in self.pairs]

    @property
    def met(self) -> bool | None:
        return self.bound.is_met(self.ratios)

    def cells(self) -> list[str]:
        ours, theirs = (statistics.median(side) for side in zip(*self.pairs, strict=True))
        ratio = f"{statistics.median(self.ratios):.3g} ({self.bound.worse_quartile(self.ratios):.3g})"
        words = [f"**{self.ours}**", number(ours), self.theirs, number(theirs), self.unit]
        return [self.condition, *words, f"{ratio} {self.bound.kind}", str(self.bound), verdict(self.met)]

    def as_json(self) -> dict[str, Any]:
        return {
            "condition": self.condition,
            "ours": self.ours,
            "theirs": self.theirs,
            "unit": self.unit,
            "ratio": self.bound.kind,
            "values": {
                "ours": [round(ours, _DIGITS) for ours, _ in self.pairs],
                "theirs": [round(theirs, _DIGITS) for _, theirs in self.pairs],
            },
            "ratios": [round(each, _DIGITS) for each in self.ratios],
            "median_ratio": round(statistics.median(self.ratios), _DIGITS),
            "worse_quartile": round(self.bound.worse_quartile(self.ratios), _DIGITS),
            "bound": self.bound.value,
            "met": self.met,
        }

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> "Comparison":
        bound = Bound(Kind(found["ratio"]), found["bound"])
        values = found["values"]
        pairs = list(zip(values["ours"], values["theirs"], strict=True))
        return cls(found["condition"], found["ours"], found["theirs"], found["unit"], bound, pairs)


@dataclass(frozen=True)
class Limit:
    """What has a bound of its own, without another to compare it with: a time, a size. The upper quartile
    has to keep to it, or, where nothing may ever pass it, the largest (`always`)."""

    condition: str
    name: str
    unit: str
    values: list[float]
    at_most: float | None = None
    always: bool = False

    @property
    def judged(self) -> float:
        return max(self.values) if self.always else quartile(self.values, 3)

    @property
    def met(self) -> bool | None:
        return None if self.at_most is None else self.judged <= self.at_most

    def cells(self) -> list[str]:
        bound = "–" if self.at_most is None else f"at most {number(self.at_most)}"
        shown = f"{'largest' if self.always else 'upper quartile'} {number(self.judged)}"
        words = [f"**{self.name}**", number(statistics.median(self.values)), "", "", self.unit]
        return [self.condition, *words, shown, bound, verdict(self.met)]

    def as_json(self) -> dict[str, Any]:
        return {
            "condition": self.condition,
            "name": self.name,
            "unit": self.unit,
            "values": [round(each, _DIGITS) for each in self.values],
            "judged": round(self.judged, _DIGITS),
            "bound": self.at_most,
            "met": self.met,
        }


HEAD: Final = ("", "ours", "median", "beside", "median", "", "ratio (worse quartile)", "bound", "")


@dataclass
class Table:
    """Rows that belong together."""

    title: str
    rows: list[Comparison | Limit] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in self.rows)]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in lines), ""])

    def as_json(self) -> dict[str, Any]:
        return {"title": self.title, "rows": [row.as_json() for row in self.rows]}

    @classmethod
    def of_comparisons(cls, found: dict[str, Any]) -> "Table":
        """What was written as JSON, without its limits."""
        rows = [Comparison.of_json(row) for row in found["rows"] if "ours" in row]
        return cls(found["title"], [*rows])


def compare(
    ours: Side,
    theirs: Side,
    bound: Bound,
    *,
    condition: str = "",
    unit: str = "s",
    pairs: int = PAIRS,
    enough: float = math.inf,
    turns: int = 1,
) -> Comparison:
    """Both sides, so many times. Every step starts from the same state, which it makes itself outside of
    the time that it tells. After `enough` seconds of both no further pair begins. With `turns` a pair is the
    medians of so many steps of each side, in turn: for short ones, which chance decides as much as who is
    measured."""
    found: list[tuple[float, float]] = []
    for pair in range(pairs):
        if sum(map(sum, found)) >= enough:
            break
        steps = [_both(ours, theirs, ours_first=(pair + turn) % 2 == 0) for turn in range(turns)]
        mine, other = (statistics.median(side) for side in zip(*steps, strict=True))
        found.append((mine, other))
    return Comparison(condition, ours.name, theirs.name, unit, bound, found)


def _both(ours: Side, theirs: Side, *, ours_first: bool) -> tuple[float, float]:
    if ours_first:
        mine = ours.step()
        return mine, theirs.step()
    other = theirs.step()
    return ours.step(), other


def quartile(values: Sequence[float], which: int) -> float:
    """The first, second or third; between two values it is interpolated."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=4, method="inclusive")[which - 1]


def number(value: float) -> str:
    """With three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def verdict(met: bool | None) -> str:
    return {True: "met", False: "**not met**", None: ""}[met]


def dump(document: dict[str, Any]) -> str:
    """JSON that reads well: a value a line, but a list of numbers on one."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def processor() -> str:
    """What the machine calls its processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
