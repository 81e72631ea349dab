"""Memory that was freed goes back to the system, where the C library would keep it for later."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """What is free now: a process that did something large once would else look large for ever. glibc alone
    can do that, in some milliseconds."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
