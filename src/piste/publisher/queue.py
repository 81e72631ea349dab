"""The queue between Nix's post-build hook and whoever pushes: a folder, so that it outlives all of them.

    new/       a file for each build, with its paths; removed once each of them was pushed or has failed
    part/      where those are written
    failed/    a file for each path that can't be pushed, with the reason, until it was told
    pushed     a line for each path that was pushed, until it was told
    lock       held by the one that pushes
    hook       what Nix is to run

A path is in one of the first three, or in none: whatever is killed, at whatever moment. What was pushed just
before a kill is pushed again, which is one request.
"""

import fcntl
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from piste.lib.errors import PisteError
from piste.lib.files import sync_folder, write_atomically
from piste.nix.store_path import StorePath, StorePathError
from piste.publisher import hook

_KEPT: Final = 10_000  # lines of `pushed`, where nobody asks for them
_LARGEST: Final = 2 << 20  # bytes of `pushed`, above which the oldest lines go

_SCRIPT: Final = """#!/bin/sh
# Made by piste. Nix runs this after each build, and the build must not fail by it.
{command} && exit 0
name="sh-$$-${{DRV_PATH##*/}}"
if printf '%s\\n' $OUT_PATHS > {queue}/part/"$name"; then
  mv {queue}/part/"$name" {queue}/new/"$name" && exit 0
fi
echo "piste: these paths are not queued, and will not be pushed: $OUT_PATHS" >&2
exit 0
"""


@dataclass(frozen=True)
class Entry:
    """What one build put into the queue."""

    name: str
    paths: tuple[StorePath, ...]


class Failure(msgspec.Struct, frozen=True):
    """A path that can't be pushed, and why."""

    path: str
    ref: str
    message: str


@dataclass(frozen=True)
class Report:
    """What became of everything that was queued since it was told last."""

    pushed: list[str]
    failed: list[Failure]
    waiting: list[str]


class Queue:
    """One queue; its folder is made where it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._new, self._failed = self.folder / "new", self.folder / "failed"
        self._pushed = self.folder / "pushed"
        try:
            for each in (self._new, self.folder / "part", self._failed):
                each.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PisteError(
                "queue-not-usable",
                f"The queue {self.folder} can't be made: {error.strerror}.",
                hint="Give another folder with --queue.",
            ) from error

    def write_hook(self) -> Path:
        """The script for Nix's setting `post-build-hook`, which takes a program without arguments."""
        argv = [sys.executable, "-I", "-S", str(Path(hook.__file__).resolve()), str(self.folder)]
        text = _SCRIPT.format(command=shlex.join(argv), queue=shlex.quote(str(self.folder)))
        script = self.folder / "hook"
        if not script.exists() or script.read_text() != text:
            write_atomically(script, text.encode(), mode=0o755)
        return script

    def waiting(self) -> list[Entry]:
        """In the order in which they were built."""
        entries = []
        for name in sorted(file.name for file in self._new.iterdir()):
            try:
                text = (self._new / name).read_text()
            except (FileNotFoundError, UnicodeDecodeError):
                text = ""
            except PermissionError as error:
                raise PisteError(
                    "queue-not-usable",
                    f"{self._new / name} belongs to another user.",
                    hint="Push as the user whose Nix runs the hook: root, where there is a daemon.",
                ) from error
            entries.append(Entry(name, tuple(dict.fromkeys(_paths(text)))))
        return entries

    def settle(
        self, entries: Iterable[Entry], pushed: Iterable[StorePath], failed: Iterable[Failure]
    ) -> None:
        """Write down what became of all paths of these entries, and then forget the entries."""
        for failure in failed:
            name = failure.path.rpartition("/")[2]
            write_atomically(self._failed / f"{name}.json", msgspec.json.encode(failure))
        done = [str(path) for path in pushed]
        self._note_pushed(done)
        for path in done:
            (self._failed / f"{path.rpartition('/')[2]}.json").unlink(missing_ok=True)
        for entry in entries:
            (self._new / entry.name).unlink(missing_ok=True)
        sync_folder(self._new)

    def report(self) -> Report:
        waiting = dict.fromkeys(str(path) for entry in self.waiting() for path in entry.paths)
        failed = [
            msgspec.json.decode(each.read_bytes(), type=Failure)
            for each in sorted(self._failed.glob("*.json"))
        ]
        return Report(list(dict.fromkeys(self._lines())), failed, list(waiting))

    def forget_told(self, report: Report) -> None:
        """What was told once is not told again."""
        for failure in report.failed:
            name = failure.path.rpartition("/")[2]
            (self._failed / f"{name}.json").unlink(missing_ok=True)
        told = set(report.pushed)
        rest = [line for line in self._lines() if line not in told]
        write_atomically(self._pushed, "".join(f"{line}\n" for line in rest).encode())

    @contextmanager
    def pushing(self) -> Iterator[bool]:
        """Whether it is now upon the caller to push; to the end of the block nobody else does."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield True
        finally:
            os.close(descriptor)

    def pusher(self) -> str:
        """The number of the process that pushes, or pushed last."""
        try:
            return (self.folder / "lock").read_text().strip() or "unknown"
        except OSError:
            return "unknown"

    def _note_pushed(self, paths: list[str]) -> None:
        if not paths:
            return
        with self._pushed.open("ab") as file:
            file.write("".join(f"{path}\n" for path in paths).encode())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if size > _LARGEST:
            kept = self._lines()[-_KEPT:]
            write_atomically(self._pushed, "".join(f"{line}\n" for line in kept).encode())

    def _lines(self) -> list[str]:
        try:
            return self._pushed.read_text().split()
        except FileNotFoundError:
            return []


def _paths(text: str) -> Iterator[StorePath]:
    for word in text.split():
        try:
            yield StorePath.parse(word)
        except StorePathError:
            continue  # Nix names nothing else; a file that somebody else put there is not ours to push
