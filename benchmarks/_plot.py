"""A plot of a benchmark as SVG, written by hand: two bars a comparison, in one unit, on a scale of powers of
ten.

A logarithmic scale, since what is compared differs by a factor of a hundred. Thin lines go from the first to
the third quartile.
"""

import math
import statistics
from collections.abc import Sequence
from html import escape
from typing import Final

from benchmarks._pairs import Comparison, Table, number, quartile

_WIDTH: Final = 860
_LEFT: Final = 330
_RIGHT: Final = 120
_BAR: Final = 13
_GAP: Final = 14
_OURS: Final = "#0b6e4f"
_THEIRS: Final = "#b8bfc6"
_FONT: Final = "font-family='system-ui, sans-serif'"


def plot(tables: Sequence[Table]) -> str:
    """One panel for each table and unit that has comparisons; nothing else is drawn."""
    parts: list[str] = []
    height = 10
    for table in tables:
        for unit in dict.fromkeys(row.unit for row in _comparisons(table)):
            rows = [row for row in _comparisons(table) if row.unit == unit]
            drawn, height = _panel(f"{table.title} ({unit}, logarithmic)", rows, height)
            parts += drawn
    size = f"width='{_WIDTH}' height='{height}' viewBox='0 0 {_WIDTH} {height}'"
    background = f"<rect width='{_WIDTH}' height='{height}' fill='#ffffff'/>"
    body = "\n".join(parts)
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>\n{background}\n{body}\n</svg>\n"


def _comparisons(table: Table) -> list[Comparison]:
    return [row for row in table.rows if isinstance(row, Comparison)]


def _panel(title: str, rows: Sequence[Comparison], top: int) -> tuple[list[str], int]:
    values = [value for row in rows for pair in row.pairs for value in pair if value > 0]
    if not values:
        return [], top
    low = 10 ** math.floor(math.log10(min(values)) - 0.01)
    high = max(max(values), low * 10)
    scale = (_WIDTH - _LEFT - _RIGHT) / math.log10(high / low)
    y = top + 22
    parts = [_text(10, top + 14, title, weight="600", size=_fitting(title, 14, _WIDTH - 20))]
    for row in rows:
        label = row.condition
        for name, place, colour in ((row.ours, 0, _OURS), (row.theirs, 1, _THEIRS)):
            side = [pair[place] for pair in row.pairs]
            parts += _bar(f"{label}: {name}" if place == 0 and label else name, side, y, low, scale, colour)
            y += _BAR + 2
        y += _GAP - 4
    return parts, y + 10


def _bar(name: str, side: Sequence[float], y: int, low: float, scale: float, colour: str) -> list[str]:
    def at(value: float) -> float:
        return _LEFT + scale * math.log10(max(value, low) / low)

    median = statistics.median(side)
    first, third = at(quartile(side, 1)), at(quartile(side, 3))
    middle, length = y + _BAR / 2, max(at(median) - _LEFT, 1)
    return [
        _text(_LEFT - 8, y + _BAR - 2, name, anchor="end", size=_fitting(name, 12, _LEFT - 12)),
        f"<rect x='{_LEFT}' y='{y}' width='{length:.1f}' height='{_BAR}' fill='{colour}'/>",
        f"<line x1='{first:.1f}' x2='{third:.1f}' y1='{middle}' y2='{middle}' stroke='#222222'/>",
        _text(max(at(median), third) + 6, y + _BAR - 2, number(median)),
    ]


def _fitting(text: str, size: int, room: float) -> float:
    """The size at which a text has room; letters are some six tenths as wide as they are high."""
    return min(size, round(room / (0.6 * len(text)), 1))


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400", size: float = 12
) -> str:
    style = f"{_FONT} font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' fill='#222222'"
    return f"<text x='{x:.1f}' y='{y}' {style}>{escape(text)}</text>"
