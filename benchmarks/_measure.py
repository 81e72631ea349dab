"""Times, tables and the conditions that they were taken under."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence


def timed(step: Callable[[], object]) -> float:
    """The seconds that something takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the head; what is not in the first column is set to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for place, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
        if place == 0:
            print("  ".join("-" * width for width in widths))
    print(flush=True)


def print_conditions(*more: str) -> None:
    """What the figures depend on."""
    cores = len(os.sched_getaffinity(0))
    words = [f"{cores} cores", f"Python {platform.python_version()}", version_of("nix"), *more]
    print(f"Conditions: {', '.join(words)}; {load()}.\n", flush=True)


def load() -> str:
    """How busy the machine is, all that we do ourselves included: above the number of cores it waits."""
    return f"load {os.getloadavg()[0]:.1f}"


def version_of(*argv: str) -> str:
    """The first line of what a program says to --version."""
    done = subprocess.run([*argv, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[0].replace(" (Nix)", "")
