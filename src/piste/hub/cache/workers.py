"""The few threads that do the hub's heavy work on bytes, so that the event loop never waits and memory stays
bounded.

An upload holds one place from its first byte to its last: a place costs a decompressor's window. That is
8 MiB for zstd, with which four uploads leave the hub under 200 MB; xz at its highest level takes 65, so that
four of those at once take it to some 320. Must never run anything that waits for the network.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

from piste.hub.errors import HubError
from piste.lib.streams import gathered

# Hashing and zstd let go of the GIL: two threads keep two cores busy.
THREADS: Final = 2
PLACES: Final = 4
# One organization leaves a place to the others, however slowly its uploads come.
PLACES_EACH: Final = PLACES - 1
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
        # Held while a large message is taken apart, which takes five times its size.
        self.taking_apart = asyncio.Lock()
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

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

    async def each(self, items: Iterator[T]) -> AsyncIterator[T]:
        """What an iterator gives, each made in a thread when it is asked for."""
        while (item := await self.run(next, items, None)) is not None:
            yield item

    @asynccontextmanager
    async def place(self, organization: str, *, patience: float = PATIENCE) -> AsyncIterator[None]:
        """A place for one upload to an organization (id)."""
        own = self._own.setdefault(organization, asyncio.Semaphore(PLACES_EACH))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(patience):
                    for semaphore in (own, self._places):
                        await held.enter_async_context(semaphore)
            except TimeoutError:
                raise HubError(
                    "overloaded", "Too many uploads are under way.", hint="Try again in a minute."
                ) from None
            yield

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
