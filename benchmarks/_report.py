"""What a benchmark found, as it goes on the terminal, and at the end as files: raw numbers as JSON with the
machine and the versions, a table in Markdown, a plot.

    python -m benchmarks._report        # plots and results/README.md anew, of what lies there

A quick run judges nothing and leaves no files, unless it is told where.
"""

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks._cpu import accounting
from benchmarks._measure import version_of
from benchmarks._pairs import (
    PAIRS,
    QUICK_PAIRS,
    Comparison,
    Limit,
    Table,
    dump,
    processor,
)
from benchmarks._plot import plot
from tests.running.command import PISTE

RESULTS: Final = Path(__file__).parent / "results"
_INDEX: Final = "README.md"
_CORES: Final = len(os.sched_getaffinity(0))  # before a benchmark keeps to some of them


@dataclass(frozen=True)
class Options:
    """What all benchmarks can be told."""

    quick: bool
    pairs: int
    results: Path | None
    only: str
    arguments: argparse.Namespace

    def wants(self, name: str) -> bool:
        """Whether a part of that name is to be measured."""
        return re.search(self.only, name) is not None


def options(doc: str | None, parser: argparse.ArgumentParser | None = None) -> Options:
    """Read the command line; a benchmark adds arguments of its own to a parser that it brings."""
    parser = parser or argparse.ArgumentParser()
    parser.description, parser.formatter_class = doc, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs of each, of less")
    parser.add_argument("--pairs", type=int, help=f"how many of each; else {PAIRS}")
    parser.add_argument("--results", type=Path, help="the folder for the results; else benchmarks/results")
    parser.add_argument("--only", default="", help="parts whose name this regular expression finds")
    found = parser.parse_args()
    pairs = found.pairs or (QUICK_PAIRS if found.quick else PAIRS)
    results = found.results or (None if found.quick or found.only else RESULTS)
    return Options(found.quick, pairs, results, found.only, found)


class Report:
    """The tables of one benchmark. `name` is that of its files."""

    def __init__(self, name: str, about: str, chosen: Options, **conditions: str) -> None:
        self._name = name
        self._about = about
        self._options = chosen
        self._tables: list[Table] = []
        self._conditions = {
            "processor": processor(),
            "cores": str(_CORES),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "nix": version_of("nix").removeprefix("nix "),
            "piste": version_of(str(PISTE)).removeprefix("piste "),
            "cpu accounting": accounting(),
            "load at the start": _load(),
            **conditions,
        }
        print(f"{about}\n{self._told()}\n", flush=True)

    def table(self, title: str) -> None:
        """Rows from now on stand below this."""
        self._tables.append(Table(title))
        print(f"{title}; load {_load()}", flush=True)

    def add(self, row: Comparison | Limit) -> None:
        """Take a row, and show it at once, since a benchmark takes long."""
        self._tables[-1].rows.append(row)
        print("  " + "  ".join(cell for cell in row.cells() if cell).replace("**", ""), flush=True)

    def finish(self) -> None:
        """Write the files; the process ends with 1 where a bound is not met, but for a quick run."""
        self._conditions["load at the end"] = _load()
        rows = [row for table in self._tables for row in table.rows if row.met is not None]
        missed = [row for row in rows if not row.met]
        print(f"{len(rows)} bounds, {len(missed)} of them not met", flush=True)
        if self._options.results is not None:
            self._write(self._options.results)
        if missed and not self._options.quick:
            sys.exit(1)

    def _write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "benchmark": self._name,
            "about": self._about,
            "taken": datetime.now(UTC).strftime("%Y-%m-%d"),
            "quick": self._options.quick,
            "conditions": self._conditions,
            "tables": [table.as_json() for table in self._tables],
        }
        (folder / f"{self._name}.json").write_text(dump(document))
        _draw(folder / f"{self._name}.svg", self._tables)
        tables = "\n".join(table.markdown() for table in self._tables)
        (folder / f"{self._name}.md").write_text(f"{self._about}\n\n{tables}\n{self._told()}\n")
        write_index(folder)

    def _told(self) -> str:
        return "Conditions: " + ", ".join(f"{name} {value}" for name, value in self._conditions.items()) + "."


def _draw(file: Path, tables: Sequence[Table]) -> None:
    """A plot where there is something to draw."""
    drawing = plot(tables)
    if "<rect x" in drawing:
        file.write_text(drawing)


def draw_again(folder: Path) -> None:
    """All plots, from the raw numbers."""
    for file in folder.glob("*.json"):
        found = json.loads(file.read_text())["tables"]
        _draw(file.with_suffix(".svg"), [Table.of_comparisons(each) for each in found])


def write_index(folder: Path) -> None:
    """All tables and plots on one page."""
    parts = [
        "# Results",
        "",
        "Written by the benchmarks; the raw numbers are in the `.json` beside each.",
        "",
    ]
    for page in sorted(folder.glob("*.md")):
        if page.name == _INDEX:
            continue
        parts += [f"## {page.stem}", "", page.read_text()]
        if (folder / f"{page.stem}.svg").exists():
            parts += [f"![{page.stem}]({page.stem}.svg)", ""]
    (folder / _INDEX).write_text("\n".join(parts))


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    draw_again(RESULTS)
    write_index(RESULTS)
