"""Trying again: how long to wait between attempts. What may be repeated, the caller knows."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Waits that double from `first` up to `longest` seconds; each is shortened by up to half at random.

    The jitter keeps a fleet that lost its hub at one moment from coming back at one moment.
    """

    attempts: int = 3
    first: float = 0.2
    longest: float = 5.0

    def waits(self, rng: random.Random | None = None) -> Iterator[float]:
        """The waits between attempts, one fewer than there are attempts."""
        draw = (rng or random.Random()).random  # noqa: S311 - spreads load, guards nothing
        for attempt in range(self.attempts - 1):
            yield min(self.longest, self.first * 2**attempt) * (1 - draw() / 2)
