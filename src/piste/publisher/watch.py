"""Pushes what a queue holds until somebody says stop; it never stops by itself, and says whatever goes wrong.

What is wrong with a path is found by halving, written down, and keeps no other path from being pushed. All
else is tried again, ever more seldom: a hub that is down, a credential that has ended, a store that is
locked.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Final, Protocol

from piste.lib.errors import PisteError, UnreachableError
from piste.nix.store_path import StorePath
from piste.publisher.push import Pushed
from piste.publisher.queue import Failure, Queue

PushPaths = Callable[[Sequence[StorePath]], Pushed]

_POLL: Final = 0.5  # seconds between two looks at an empty queue
_BATCH: Final = 500  # builds in one push
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 60.0
# What an error says of paths. Any other is about the way, and no reason to give up on what is to be pushed.
_OF_PATHS: Final = frozenset(
    (
        "bad-nar",
        "bad-path-info",
        "bad-signature",
        "nar-mismatch",
        "path-conflict",
        "path-damaged",
        "path-not-valid",
        "push-incomplete",
        "store-refused",
        "undeclared-reference",
    )
)
_PASSING: Final = frozenset(("store-unreachable", "disk-full"))


class Tell(Protocol):
    """Who is told how it goes."""

    def say(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


@dataclass
class _Found:
    """What came of the paths of one batch so far."""

    pushed: list[StorePath] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


class Watch:
    """One that pushes; it must hold the queue's lock."""

    def __init__(self, queue: Queue, push: PushPaths, tell: Tell) -> None:
        self._queue = queue
        self._push = push
        self._tell = tell
        self._stop = threading.Event()
        self._wait = _FIRST_WAIT
        self.trouble: PisteError | None = None  # why it does not get on at the moment

    def stop(self) -> None:
        """End after what is under way."""
        self._stop.set()

    def run(self) -> None:
        """Push whatever comes, until it is told to stop."""
        while not self._stop.is_set():
            self._stop.wait(_POLL if self.turn() else self._pause())

    def drain(self, deadline: float) -> None:
        """Push until nothing is left, until the deadline (monotonic), or until it needs somebody's help."""
        while self._queue.waiting() and not self._stop.is_set():
            if self.turn():
                continue
            rest = deadline - monotonic()
            if rest <= 0 or not _passes(self.trouble):
                return
            self._stop.wait(min(self._pause(), rest))

    def turn(self) -> bool:
        """Push what waits now; False where that has to be tried again."""
        try:
            self._turn()
        except PisteError as error:
            self.trouble = error
        except Exception as error:
            # Whatever it is, what waits is not to be forgotten for it.
            self.trouble = PisteError("internal-error", f"{type(error).__name__}: {error}.")
        else:
            self.trouble, self._wait = None, _FIRST_WAIT
        return self.trouble is None

    def _turn(self) -> None:
        entries = list(islice(self._queue.waiting(), _BATCH))
        if not entries:
            return
        found = _Found()
        self._push_all(list(dict.fromkeys(path for entry in entries for path in entry.paths)), found)
        self._queue.settle(entries, found.pushed, found.failed)
        for failure in found.failed:
            self._tell.warn(f"{failure.path} is not pushed: {failure.message} ({failure.ref})")

    def _push_all(self, paths: Sequence[StorePath], found: _Found) -> None:
        """PisteError is what is not about paths."""
        if not paths:
            return
        try:
            pushed = self._push(paths)
        except PisteError as error:
            if error.ref not in _OF_PATHS:
                raise
            if len(paths) == 1:
                found.failed.append(Failure(str(paths[0]), error.ref, error.message))
                return
            middle = len(paths) // 2
            self._push_all(paths[:middle], found)
            self._push_all(paths[middle:], found)
            return
        found.pushed += paths
        self._tell.say(
            f"Pushed {' '.join(str(path) for path in paths)}: {pushed.paths_uploaded} new paths,"
            f" {pushed.bytes_uploaded} bytes."
        )

    def _pause(self) -> float:
        """Say what holds it up; how long to wait until the next attempt."""
        wait, self._wait = self._wait, min(_LONGEST_WAIT, self._wait * 2)
        count = sum(len(entry.paths) for entry in self._queue.waiting())
        said = self.trouble.message if self.trouble is not None else "Something is in the way."
        self._tell.warn(f"{said} {count} built paths wait; the next attempt is in {wait:.0f} s.")
        return wait


def _passes(error: PisteError | None) -> bool:
    """Whether waiting helps by itself."""
    return isinstance(error, UnreachableError) or (error is not None and error.ref in _PASSING)
