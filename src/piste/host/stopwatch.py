"""How long each step took, for the result that the commands print."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by step, in the order in which the steps began."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what happens inside; a step that is taken twice adds up."""
        began = time.monotonic()
        self._seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - began

    def read(self) -> dict[str, float]:
        """In milliseconds' precision; finer would be noise."""
        return {name: round(value, 3) for name, value in self._seconds.items()}
