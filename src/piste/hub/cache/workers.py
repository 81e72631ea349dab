"""The few threads that do the hub's heavy work on bytes, so that the event loop never waits and memory stays
bounded.

An upload holds one place from its first byte to its last: a place costs a decompressor's window, and with
four of them the hub stays under 200 MB whatever is sent. Must never run anything that waits for the network.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Final, ParamSpec, Protocol, TypeVar

from piste.hub.errors import HubError
from piste.lib.streams import gathered

# Hashing and zstd let go of the GIL: two threads keep two cores busy.
THREADS: Final = 2
PLACES: Final = 4
# How long an upload waits for a place, in seconds; a client that is told to come back does so.
PATIENCE: Final = 60.0

P = ParamSpec("P")
T = TypeVar("T")


class Sink(Protocol):
    """What takes bytes in a thread."""

    def feed(self, data: bytes) -> None: ...
    def discard(self) -> None: ...


class Workers:
    """One of these a process."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bytes")
        self._places = asyncio.Semaphore(PLACES)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in a thread. A caller that is cancelled leaves only when the thread has let go of what it was
        given.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            with suppress(Exception):
                await future
            raise

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for one upload."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            raise HubError(
                "overloaded", "Too many uploads are under way.", hint="Try again in a minute."
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def pump(self, body: AsyncIterable[bytes], sink: Sink) -> None:
        """Give the whole body to the sink. Whatever ends it early discards what the sink has."""
        try:
            async for data in gathered(body):
                await self.run(sink.feed, data)
        except BaseException:
            await self.run(sink.discard)
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
