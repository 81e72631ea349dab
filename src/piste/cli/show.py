"""All printing. Results go to standard output, alone; everything said to people goes to standard error.

Colours and progress appear on a terminal only. No other module of the commands writes to a stream.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from piste.lib.errors import PisteError


def line(text: str) -> None:
    """One line of the result."""
    sys.stdout.write(text + "\n")


def say(text: str) -> None:
    """One line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    sys.stderr.write(_paint("warning:", "33") + f" {text}\n")
    sys.stderr.flush()


def data(value: object) -> None:
    """The result as JSON, times in RFC 3339; indented on a terminal."""
    plain = _readable(msgspec.to_builtins(value))
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(plain, indent=indent, ensure_ascii=False) + "\n")


def event(value: object) -> None:
    """One object of a stream of JSON lines."""
    sys.stdout.write(json.dumps(_readable(msgspec.to_builtins(value)), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def error(problem: PisteError, *, as_json: bool = False) -> None:
    """An error for people, or with --json one JSON object, both on standard error."""
    if as_json:
        body: dict[str, object] = {"ref": problem.ref, "message": problem.message}
        if problem.hint:
            body["hint"] = problem.hint
        if problem.context:
            body["context"] = problem.context
        sys.stderr.write(json.dumps({"error": body}, ensure_ascii=False) + "\n")
        return
    first, *more = problem.message.splitlines() or [""]
    sys.stderr.write(f"{_paint('error:', '31;1')} {first}  ({problem.ref})\n")
    sys.stderr.writelines(f"{text}\n" for text in more)
    for name, value in problem.context.items():
        sys.stderr.write(f"  {name}: {value}\n")
    if problem.hint:
        sys.stderr.write(f"{_paint('hint:', '36')} {problem.hint}\n")


def table(headings: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Rows in columns; without headings where the output is not a terminal, for `cut` and `awk`."""
    cells = [[value or "-" for value in row] for row in rows]
    if sys.stdout.isatty():
        cells.insert(0, [heading.upper() for heading in headings])
    if not cells:
        return
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        padded = [value.ljust(width) for value, width in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def fields(pairs: Mapping[str, str | Sequence[str] | None]) -> None:
    """Names and values, one a line, several of one name each with it; what is absent is left out."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        for one in [value] if isinstance(value, str) else value or ():
            sys.stdout.write(f"{name.ljust(width)}  {one}\n")


def moment(microseconds: int | None) -> str | None:
    """A time in UTC, RFC 3339."""
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size(count: float) -> str:
    """A number of bytes for people: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 3 min 10 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def ask_secret(question: str) -> str | None:
    """Ask for something that is not echoed; None where there is no terminal to ask at."""
    if not sys.stdin.isatty():
        return None
    import getpass

    return getpass.getpass(question)


def dim(text: str) -> None:
    """One line of another program's words, for people."""
    sys.stderr.write(_paint(text, "2") + "\n")
    sys.stderr.flush()


def transient(text: str) -> None:
    """A line on the terminal that the next one replaces; an empty one takes it away. Nothing elsewhere."""
    if interactive():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r\x1b[K" + text[:width])
        sys.stderr.flush()


def interactive() -> bool:
    """Whether progress is shown: a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "CI" not in os.environ


def _readable(value: Any) -> Any:
    """Microseconds in fields named `…_at` or `since` become text."""
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if isinstance(value, dict):
        return {
            name: moment(item) if _is_moment(name) and isinstance(item, int) else _readable(item)
            for name, item in value.items()
        }
    return value


def _is_moment(name: str) -> bool:
    return name.endswith("_at") or name == "since"


def _paint(text: str, code: str) -> str:
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        return f"\x1b[{code}m{text}\x1b[0m"
    return text


class PlainProgress:
    """Progress for logs: a line a step, nothing that moves."""

    def step(self, text: str) -> None:
        say(text)

    def line(self, text: str) -> None:
        say(text)

    def warn(self, text: str) -> None:
        warn(text)

    def start(self, paths: int, total: int) -> None:
        say(f"Uploading {paths} paths, {size(total)}")

    def advance(self, paths: int, count: int) -> None:
        return

    def stop(self) -> None:
        return


class BarProgress(PlainProgress):
    """Progress for a terminal: bytes, paths, speed and the time that is left."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._done = 0
        self._paths = 0

    def step(self, text: str) -> None:
        say(f"\x1b[1m•\x1b[0m {text}")

    def start(self, paths: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        # A bar of 20, so that all of it fits into 80 columns.
        columns = (TextColumn("{task.fields[paths]} paths"), BarColumn(20), DownloadColumn())
        self._bar = Progress(
            *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
        )
        self._paths = paths
        self._task = self._bar.add_task("", total=total, paths=f"0/{paths}")
        self._bar.start()

    def advance(self, paths: int, count: int) -> None:
        self._done += paths
        if self._bar is not None:
            self._bar.update(self._task, advance=count, paths=f"{self._done}/{self._paths}")

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress() -> PlainProgress:
    """What fits where standard error goes."""
    return BarProgress() if interactive() else PlainProgress()
