"""What the demo shows: headings, commands with what they print, tables. Plain where there is no terminal."""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
MARGIN = "  "


def heading(number: int, text: str) -> None:
    """The beginning of a chapter."""
    out("")
    out(paint(f"{number}  {text}", "1;36"))


def explain(text: str) -> None:
    """A sentence or two for the reader, wrapped to the terminal."""
    width = min(shutil.get_terminal_size().columns, 100)
    for line in textwrap.wrap(" ".join(text.split()), width - len(MARGIN)):
        out(MARGIN + line)


def command(text: str) -> None:
    """A command as one would type it."""
    out(f"{MARGIN}{paint('$', '32')} {paint(text, '1')}")


def printed(text: str) -> None:
    """A line that a command printed as its result."""
    out(MARGIN + text)


def said(text: str) -> None:
    """A line that a command said to people."""
    out(paint(MARGIN + text, "2"))


def verdict(good: bool, text: str) -> None:
    """Something that was looked at."""
    out(f"{MARGIN}{paint('✓', '32') if good else paint('✗', '31;1')} {text}")


def table(rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> None:
    """Rows in columns, the first one as headings; the columns in `numbers` stand to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for place, row in enumerate(rows):
        cells = (
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        line = MARGIN + "   ".join(cells).rstrip()
        out(paint(line, "1") if place == 0 else line)


def problem(text: str) -> None:
    """Why there is no demo, or why it ended."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")


def out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOURS else text
