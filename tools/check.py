"""`make check`: every check of the code and the documentation that needs no test run.

All of them run, two at a time; what failed is shown in full, what passed in one line.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Check:
    """One tool with its arguments; passes when it exits with 0."""

    title: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a check said, and how long it took."""

    check: Check
    passed: bool
    output: str
    seconds: float


def checks() -> list[Check]:
    """The checks, the slowest first."""
    sources = [name for name in ("src", "tests", "tools", "benchmarks", "examples") if _has_python(name)]
    return [
        Check("types", (f"{BIN}/mypy", "--no-error-summary", *sources)),
        Check("lint", (f"{BIN}/ruff", "check", "--quiet", *sources)),
        Check("format", (f"{BIN}/ruff", "format", "--check", "--quiet", "--diff", *sources)),
        Check("import contracts", (f"{BIN}/lint-imports", "--no-logo")),
        Check("documentation", (sys.executable, "-m", "tools.check_docs")),
        Check("locks", (sys.executable, "-m", "tools.check_locks")),
    ]


def _has_python(folder: str) -> bool:
    return any((ROOT / folder).rglob("*.py"))


def perform(check: Check) -> Outcome:
    """Runs one check to its end."""
    start = time.monotonic()
    # The clone's own root is where `tools`, `tests` and `examples` are found by name.
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        check.command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Outcome(check, done.returncode == 0, done.stdout.strip(), time.monotonic() - start)


def main() -> int:
    """Shows every outcome; 1 if one failed."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = list(pool.map(perform, checks()))
    for outcome in outcomes:
        if not outcome.passed:
            print(f"\n=== {outcome.check.title} ===\n{outcome.output}")
    print()
    for outcome in outcomes:
        print(
            f"{outcome.check.title:<18} {'passed' if outcome.passed else 'FAILED':<7}{outcome.seconds:5.1f} s"
        )
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
