"""Where things stand in the clone, how set-up speaks, and the stamps by which it knows what is done."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements"
TOOLS = CACHE / "tools"


class SetupError(Exception):
    """What stopped set-up, in words for the person who typed `make`."""


def say(text: str) -> None:
    """One line about what is going on; results have no business on standard output here."""
    print(text, file=sys.stderr, flush=True)


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Runs a command to its end and returns what it printed; a failure carries what it said last."""
    argv = [str(part) for part in command]
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise SetupError(f"`{' '.join(argv[:4])} …` failed with {done.returncode}:\n{said}")
    return done.stdout


def fingerprint(*parts: str | Path) -> str:
    """A digest of texts and of the contents of files: what a stamp holds."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def stamped(stamp: Path, value: str) -> bool:
    """Whether this stamp holds exactly this value."""
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == value


def replace_tree(new: Path, old: Path) -> None:
    """Puts a finished folder in the place of another; a stop in between leaves one to be made again."""
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)


class Step:
    """Says what begins, and how long it took."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()

    def __enter__(self) -> "Step":
        say(f"  {self._title} …")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            say(f"  {self._title}: {time.monotonic() - self._start:.1f} s")
