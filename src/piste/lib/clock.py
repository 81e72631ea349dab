"""Time as a value that is passed in, so that nothing but the composition roots reads the wall clock."""

import time
from collections.abc import Callable
from typing import Final

Clock = Callable[[], int]  # microseconds since the epoch

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000
