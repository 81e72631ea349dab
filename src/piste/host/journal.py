"""What this host did, line by line: each step is on the disk before it is taken, so that a crash can be
continued.

`deployments.ndjson` is only ever appended to. One process at a time may deploy: the lock beside it says
which. Must never lose a line that was acknowledged, and never fail over a line that a crash cut short.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from piste.host.records import Deployment, Event, Facts, Result, State
from piste.lib.clock import Clock, wall_clock
from piste.lib.errors import BlockedError, PisteError
from piste.lib.files import sync_folder
from piste.lib.identifiers import new_id

_FACTS: Final = tuple(Facts.__struct_fields__)


class Holder(msgspec.Struct, frozen=True):
    """Who deploys at this moment."""

    pid: int
    command: str
    since: int


class Journal:
    """The deployments of one host (or of one user of it)."""

    def __init__(self, folder: Path, clock: Clock = wall_clock) -> None:
        self.folder = folder
        self._file = folder / "deployments.ndjson"
        self._lock = folder / "deploying"
        self._clock = clock

    @contextmanager
    def writer(self, command: str) -> Iterator["Writer"]:
        """The right to deploy; BlockedError says who has it now."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError as error:
            raise PisteError(
                "state-not-writable",
                f"{self.folder} can't be written to by this user.",
                hint="Run the command as root, or give --root DIR.",
            ) from error
        try:
            self._take(descriptor)
            holder = Holder(os.getpid(), command, self._clock())
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(holder), 0)
            yield Writer(self._file, self._clock)
        finally:
            os.close(descriptor)

    def deployments(self) -> list[Deployment]:
        """All of them, newest first."""
        found: dict[str, Deployment] = {}
        for event in self._events():
            known = found.get(event.deployment)
            found[event.deployment] = _fold(known, event)
        return list(reversed(found.values()))

    def interrupted(self) -> Deployment | None:
        """A deployment that has not come to its end. For its writer alone: else it may still be running."""
        return next((one for one in self.deployments() if one.state is not State.FINISHED), None)

    def ended_badly(self) -> bool:
        """Whether the last activation failed and was not undone: nobody vouches then for what runs."""
        changing = (State.TESTING, State.ROLLING_BACK)
        last = [event.deployment for event in self._events() if event.state in changing][-1:]
        results = [one.result for one in self.deployments() if one.deployment in last]
        return results in ([Result.FAILED], [Result.ROLLBACK_FAILED])

    def log_file(self, deployment: str) -> Path:
        """Where what the activation says is kept."""
        return self.folder / "logs" / f"{deployment}.log"

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockedError("deployment-running", _held_by(os.pread(descriptor, 4096, 0))) from None

    def _events(self) -> Iterator[Event]:
        try:
            lines = self._file.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                yield msgspec.json.decode(line, type=Event)
            except msgspec.DecodeError as error:
                # The last line of a crash ends early, and what follows it begins on a line of its own.
                if line.endswith(b"}"):
                    raise PisteError(
                        "journal-damaged", f"Line {number} of {self._file} can't be read: {error}."
                    ) from error


class Writer:
    """Appends to the journal, for as long as the lock is held."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._path = file
        self._clock = clock
        self._end_cut_line()

    def begin(self, **facts: Any) -> Deployment:
        """A new deployment, received."""
        now = self._clock()
        event = Event(deployment=new_id(now), at=now, state=State.RECEIVED, **facts)
        self._append(event)
        return _fold(None, event)

    def move(self, deployment: Deployment, state: State, **facts: Any) -> Deployment:
        """The deployment has come to `state`; returns once that is on the disk."""
        event = Event(deployment=deployment.deployment, at=self._clock(), state=state, **facts)
        self._append(event)
        return _fold(deployment, event)

    def _append(self, event: Event) -> None:
        new = not self._path.exists()
        rest = memoryview(msgspec.json.encode(event) + b"\n")
        with self._path.open("ab", buffering=0) as file:
            end = os.fstat(file.fileno()).st_size
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                # A full disk took a part of the line; what is written next must not be glued to it. Whether
                # that can be undone or not, the first error is the one to tell.
                with suppress(OSError):
                    os.ftruncate(file.fileno(), end)
                raise
        if new:
            sync_folder(self._path.parent)

    def _end_cut_line(self) -> None:
        try:
            with self._path.open("rb+") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
        except FileNotFoundError:
            return


def _fold(known: Deployment | None, event: Event) -> Deployment:
    if known is None:
        known = Deployment(deployment=event.deployment, started_at=event.at, state=event.state)
    news = {name: value for name in _FACTS if (value := getattr(event, name)) not in (None, [])}
    finished = event.at if event.state is State.FINISHED else None
    return msgspec.structs.replace(known, state=event.state, finished_at=finished, **news)


def _held_by(data: bytes) -> str:
    try:
        holder = msgspec.json.decode(data, type=Holder)
    except msgspec.DecodeError:
        return "Another process deploys to this host right now."
    return f"`{holder.command}` (process {holder.pid}) deploys to this host right now."
