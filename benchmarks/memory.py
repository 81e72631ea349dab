"""What a fetch needs of memory and time as closures grow: the command's own, Nix's not counted, and the
hub's.

    python -m benchmarks.memory [--quick]
"""

import subprocess
import time
from contextlib import ExitStack, suppress
from typing import Final

from benchmarks._closure import Shape
from benchmarks._pairs import Bound, Kind, Limit, Side, compare
from benchmarks._report import Report, options
from benchmarks.fetch import REFERENCE, Bench, bench_of
from benchmarks.responsive import most_memory
from tests.running.command import PISTE, Person

SMALL: Final = Shape(5_000, 20, 10_000)
GREAT: Final = Shape(20_000, 20, 10_000)
COMMAND_MEGABYTES: Final = 100
HUB_MEGABYTES: Final = 250
LINEAR: Final = Bound(Kind.AT_MOST, 1.2)


class Watched:
    """A closure, and what fetching it took."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.command: list[float] = []

    def per_path(self) -> float:
        """Milliseconds of the whole command for each path."""
        seconds = self.bench.side("piste fetch", self._fetch).step()
        return seconds / len(self.bench.closure.members) * 1000

    def _fetch(self, person: Person) -> float:
        argv = [str(PISTE), "fetch", REFERENCE, str(person.folder / "result")]
        began = time.perf_counter()
        process = subprocess.Popen(
            argv, env=person.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        most = 0.0
        while process.poll() is None:
            with suppress(SystemExit, OSError):  # it may be about to be gone
                most = max(most, most_memory(process.pid))
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        if process.returncode != 0:
            raise SystemExit(process.stderr.read() if process.stderr else "the fetch failed")
        self.command.append(most)
        return seconds


def main() -> None:
    chosen = options(__doc__)
    report = Report("memory", "Fetching larger and larger closures.", chosen)
    shapes = (Shape(200, 10, 10_000), Shape(800, 10, 10_000)) if chosen.quick else (SMALL, GREAT)
    with ExitStack() as stack:
        small, great = (Watched(stack.enter_context(bench_of(shape))) for shape in shapes)
        for each in (small, great):
            stack.enter_context(each.bench.at(0.0))
        report.table("Time for each path, fewer and more of them")
        names = [f"{len(each.bench.closure.members):,} paths" for each in (great, small)]
        ours, theirs = Side(names[0], great.per_path), Side(names[1], small.per_path)
        report.add(compare(ours, theirs, LINEAR, unit="ms a path", pairs=chosen.pairs))
        report.table("Memory, at most")
        for name, each in zip(names, (great, small), strict=True):
            hub = [most_memory(each.bench.hub.pid)]
            report.add(Limit(name, "piste fetch", "MB", each.command, at_most=COMMAND_MEGABYTES, always=True))
            report.add(Limit(name, "hub", "MB", hub, at_most=HUB_MEGABYTES, always=True))
    report.finish()


if __name__ == "__main__":
    main()
