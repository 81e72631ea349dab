"""Memory that was freed goes back to the system, where the C library would keep it for later.

Of C libraries only glibc can be told; with another one nothing happens.
"""

import ctypes
import gc
from contextlib import suppress
from typing import Final

# Of <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
_LARGE: Final = 1 << 20
_SPARE: Final = 4 << 20


def settle() -> None:
    """For a program with threads that runs for weeks; to be called before it starts any. Left alone, each
    thread frees into a heap of its own, and one message of 30 MB is enough for all up to that size to be put
    between small things from then on, where they leave holes. What is loaded by now stays, so the collector
    of garbage need not look at it each time, with everybody waiting.
    """
    gc.freeze()
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, _ARENAS)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_M_TRIM_THRESHOLD, _SPARE)


def give_back() -> None:
    """What is free now: a process that did something large once would else look large for ever. glibc alone
    can do that, in some milliseconds."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
