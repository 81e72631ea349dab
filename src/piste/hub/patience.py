"""Waiting for a fault of the hub to go, before an answer makes Nix give up on a path.

Nix remembers for an hour that a path is missing, and every other answer that it takes for a fault stops it
(docs/decisions/0015). So a look-up is tried again for a while. All look-ups of a process share that while: a
fault that stays holds nobody up for longer. Must never repeat what changes something.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect

from piste.hub.errors import HubError

# A database that starts anew or moves is back by then; Nix waits for an answer for 300 s.
PATIENCE_SECONDS: Final = 10.0
# What an attempt gets once that is over: a database that hangs is no better than one that refuses.
LEAST_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


class Patience:
    """How long faults have lasted in this process, and how long they are still waited for."""

    def __init__(
        self, seconds: float = PATIENCE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: float | None = None  # of the first fault after the last success

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What the attempt returns or raises, once it is no fault or there is no time left."""
        pause = _FIRST_PAUSE
        while True:
            began = self._clock()
            try:
                async with asyncio.timeout(max(self._left(), LEAST_SECONDS)):
                    found = await attempt()
            except Exception as error:
                if not is_fault(error):
                    self._since = None
                    raise
                if self._since is None:
                    self._since = began
                if self._left() < pause:
                    raise
            else:
                self._since = None
                return found
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _left(self) -> float:
        return self._seconds - (self._clock() - self._since if self._since is not None else 0.0)


def is_fault(error: Exception) -> bool:
    """Whether the hub failed, and not the request."""
    if isinstance(error, HubError):
        return error.status >= 500
    return not isinstance(error, ClientDisconnect)
