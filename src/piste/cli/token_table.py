"""Tables of resolve-only tokens, one for each host of a fleet: read before anything is made, written where a
program that installs hosts finds them.

A table is CSV: names of columns in its first line, then one token a line; with tabs if the first line has
one. It must never print a token, and never write over a file.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, TypeVar

from piste.lib.errors import PisteError, UsageError
from piste.lib.files import sync_folder, write_secret

T = TypeVar("T")

_MAX_BYTES: Final = 8 << 20
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Columns:
    """What a line says of its token; None and empty are what the options say."""

    description: str | None = None
    project: str | None = None
    requirement: str | None = None
    attribute: str | None = None
    min_version: str | None = None
    expires: str | None = None


NAMES: Final = tuple(column.name for column in fields(Columns))
REQUIRED: Final = ("description", "project", "requirement", "attribute")


@dataclass(frozen=True)
class Line:
    """One token of a table."""

    file: Path
    number: int
    said: Columns


def read(file: Path, options: Columns) -> list[Line]:
    """The tokens of a table, completed by the options; UsageError names the line that is wrong."""
    text = _text(file)
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    lines: list[Line] = []
    try:
        names = _names(file, next(reader, []))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append(_line(file, reader.line_num, names, cells, options))
    except csv.Error as error:
        raise _wrong(file, reader.line_num, f"{error}") from error
    if not lines:
        raise UsageError(
            "bad-table", f"{file} has no tokens.", hint="One a line, below the names of columns."
        )
    _check_different(lines)
    return lines


def at_line(line: Line, make: Callable[[Columns], T]) -> T:
    """What is made of a line; an error names it."""
    try:
        return make(line.said)
    except PisteError as error:
        raise _wrong(line.file, line.number, error.message, hint=error.hint) from error


def named(error: PisteError, lines: Sequence[Line]) -> PisteError:
    """An error of the hub, with the line that it is about."""
    number = error.context.pop("number", "")
    if number.isdigit() and 0 < int(number) <= len(lines):
        line = lines[int(number) - 1]
        error.context |= {"file": str(line.file), "line": str(line.number)}
    return error


def not_written(error: OSError) -> PisteError:
    return PisteError(
        "file-not-usable",
        f"The tokens can't be written: {error.strerror}. They were revoked again.",
        hint="Make room, and create them anew.",
    )


class Folder:
    """Where tokens go, a file for each, named by its description. Checked before there are tokens."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        odd = next((name for name in names if not _FILE_NAME.fullmatch(name)), None)
        if odd is not None:
            raise UsageError(
                "bad-table",
                f"The description {odd[:64]!r} is no name for a file.",
                hint="Letters, digits, dots, dashes and underscores: for example the name of the host.",
            )
        there = next(
            (name for name in names if (folder / name).exists() or (folder / name).is_symlink()), None
        )
        if there is not None:
            raise UsageError("bad-table", f"{folder / there} is there already.", hint="Name another folder.")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise UsageError("file-not-usable", f"{folder} can't be written to: {error.strerror}.") from error

    def write(self, tokens: Mapping[str, str]) -> None:
        """All files, or OSError and none."""
        done: list[Path] = []
        try:
            for name, token in tokens.items():
                done.append(self._folder / name)
                write_secret(done[-1], f"{token}\n".encode())
        except OSError:
            for file in done:
                file.unlink(missing_ok=True)
            sync_folder(self._folder)
            raise


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError("file-not-usable", f"{file} can't be read: {error.strerror}.") from error
    if len(data) > _MAX_BYTES:
        raise UsageError("bad-table", f"{file} is larger than {_MAX_BYTES >> 20} MiB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("bad-table", f"{file} is not UTF-8.") from error


def _names(file: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    unknown = [name for name in names if name not in NAMES]
    if not names or unknown or len(set(names)) != len(names):
        said = f"has a column {unknown[0][:64]!r}" if unknown else "names a column twice, or none"
        raise UsageError(
            "bad-table", f"{file} {said}.", hint=f"Its first line has names of {', '.join(NAMES)}."
        )
    return names


def _line(file: Path, number: int, names: Sequence[str], cells: Sequence[str], options: Columns) -> Line:
    if len(cells) != len(names):
        raise _wrong(file, number, f"it has {len(cells)} cells instead of {len(names)}")
    given = {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}
    said = replace(options, **given)
    absent = [name for name in REQUIRED if getattr(said, name) is None]
    if absent:
        raise _wrong(file, number, f"it says no {', '.join(absent)}, nor does an option")
    return Line(file, number, said)


def _check_different(lines: Sequence[Line]) -> None:
    known: dict[str | None, int] = {}
    for line in lines:
        before = known.setdefault(line.said.description, line.number)
        if before != line.number:
            raise _wrong(line.file, line.number, f"line {before} has the same description")


def _wrong(file: Path, number: int, what: str, *, hint: str | None = None) -> UsageError:
    return UsageError("bad-table", f"{file}, line {number}: {what.removesuffix('.')}.", hint=hint)
