"""Showing an engine at work: its steps, what programs say, and on a terminal how far a transfer has come."""

import threading
import time
from typing import Final

from piste.cli import show
from piste.host.records import Moved, Watcher

_REDRAW: Final = 0.1  # seconds; more often, a terminal far away lags behind


class ShownWatcher(Watcher):
    """Tells everything on standard error. Told from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._drawn = 0.0

    def step(self, text: str) -> None:
        with self._lock:
            show.transient("")
            show.say(text)

    def detail(self, text: str) -> None:
        with self._lock:
            show.transient("")
            show.dim(f"  {text}")

    def warn(self, text: str) -> None:
        with self._lock:
            show.transient("")
            show.warn(text)

    def progress(self, moved: Moved) -> None:
        with self._lock:
            now = time.monotonic()
            if self._began is None:
                self._began = now
            ended = moved.paths == moved.paths_total
            if ended:
                show.transient("")
            elif now - self._drawn > _REDRAW:
                self._drawn = now
                show.transient(_line(moved, now - self._began))


def _line(moved: Moved, elapsed: float) -> str:
    speed = moved.bytes / elapsed if elapsed > 0 else 0.0
    line = (
        f"  {moved.paths} of {moved.paths_total} paths,"
        f" {show.size(moved.bytes)} of {show.size(moved.bytes_total)}, {show.size(speed)}/s"
    )
    if speed > 0 and moved.bytes_total > moved.bytes:
        line += f", {show.duration((moved.bytes_total - moved.bytes) / speed)} left"
    return line
