"""Stage 3, the far half: NARs come in, many at once and in no one's order, within bounds of memory and disk.

A thread with an event loop downloads; the thread that imports takes one NAR after another, in import order.
Small NARs wait in temporary files; a large one is passed on as it comes, once its turn has come, and is never
on the disk. Room is given out in import order, so what is taken next always has some: neither side can wait
for the other for ever.
"""

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

from piste.client.transfer import PIECE, download, open_session
from piste.lib.errors import AccessError

CONNECTIONS: Final = 16  # more gain nothing on a fast line, and cost the hub
_LARGE: Final = 32 << 20  # compressed; from here on a NAR is passed on as it comes
_SPOOL: Final = 256 << 20  # what may lie in temporary files
_WAITING: Final = 256  # NARs that may wait: each keeps a file open, or a little memory
_IN_MEMORY: Final = 64 * 1024  # below it a file costs more than it saves
_HELD: Final = 4 << 20  # of a NAR that is passed on as it comes
_TOKEN_LASTS: Final = 60.0  # a new token that is refused this soon is refused for another reason than its age


class AbandonedError(Exception):
    """The other side has gone away; why, is told there."""


@dataclass(frozen=True)
class Wanted:
    """A NAR to be fetched."""

    url: str
    size: int | None  # of the file, where the hub knows it
    estimate: int  # the same for the books, which need a number
    from_cache: bool  # takes the token of the closure


class _Spooled:
    """A NAR that waits in a temporary file until its turn comes."""

    def __init__(self) -> None:
        # It is closed when its turn has passed, or by the end of the process.
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=_spool_folder())  # noqa: SIM115 - lives beyond this
        self._done = threading.Event()
        self._error: BaseException | None = None

    async def write(self, data: bytes) -> None:
        self._file.write(data)

    async def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    def end(self, error: BaseException | None) -> None:
        self._error = error
        self._done.set()

    def pieces(self) -> Iterator[bytes]:
        self._done.wait()
        if self._error is not None:
            raise self._error
        self._file.seek(0)
        while piece := self._file.read(PIECE):
            yield piece
        self._file.close()


class _Passing:
    """A NAR that is passed on as it comes: a few pieces between the one thread and the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.turn = asyncio.Event()
        self._loop = loop
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._written = 0
        self._again = 0  # bytes that come a second time
        self._ended = False
        self._error: BaseException | None = None

    async def write(self, data: bytes) -> None:
        skipped = min(self._again, len(data))
        self._again -= skipped
        data = data[skipped:]
        if not data:
            return
        self._written += len(data)
        self._room.clear()
        with self._changed:
            self._pieces.append(data)
            self._held += len(data)
            full = self._held > _HELD
            self._changed.notify()
        if full:
            await self._room.wait()

    async def restart(self) -> None:
        self._again = self._written

    def end(self, error: BaseException | None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def pieces(self) -> Iterator[bytes]:
        _call(self._loop, self.turn.set)
        while (piece := self._next()) is not None:
            _call(self._loop, self._room.set)
            yield piece

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._pieces) or self._ended)
            if self._pieces:
                piece = self._pieces.popleft()
                self._held -= len(piece)
                return piece
        if self._error is not None:
            raise self._error
        return None


class _Counted:
    """A delivery whose bytes are counted as they come."""

    def __init__(self, delivery: _Spooled | _Passing, count: Callable[[int], None]) -> None:
        self._count = count
        self._delivery = delivery
        self.restart = delivery.restart

    async def write(self, data: bytes) -> None:
        self._count(len(data))
        await self._delivery.write(data)


class Supply:
    """The NARs of a plan. Use it in a `with` block, and take them in order, each to its end.

    `renew` gives a new token when the old one has expired; `count` is told of bytes as they come.
    """

    def __init__(
        self,
        wanted: list[Wanted],
        token: str | None,
        renew: Callable[[], str | None],
        count: Callable[[int], None],
    ) -> None:
        self._wanted = wanted
        self._token = token
        self._renew = renew
        self._renewed_at = 0.0
        self._count = count
        self._used = 0
        self._held = 0
        self._freed = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._offered: list[_Spooled | _Passing] = []
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="downloads", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        _call(self._loop, self._main.cancel)
        self._thread.join()

    def take(self, place: int) -> Iterator[bytes]:
        """The bytes of the NAR at this place as they were sent; its room is free once they were read."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._offered) > place or self._error is not None)
            if len(self._offered) <= place:
                raise self._error or AbandonedError
        delivery = self._offered[place]
        yield from delivery.pieces()
        if isinstance(delivery, _Spooled):
            _call(self._loop, self._give_back, self._wanted[place].estimate)

    # the downloads' thread

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._main = self._loop.create_task(self._download_all())
            self._ready.set()
            try:
                self._loop.run_until_complete(self._main)
            except asyncio.CancelledError:
                return
            except Exception as error:
                with self._changed:
                    self._error = error
                    self._changed.notify()

    async def _download_all(self) -> None:
        secure = any(one.url.startswith("https:") for one in self._wanted)
        # One more for the large NAR whose turn it is.
        async with open_session(CONNECTIONS + 1, secure=secure) as session, asyncio.TaskGroup() as tasks:
            for one in self._wanted:
                if one.estimate >= _LARGE:
                    delivery: _Spooled | _Passing = _Passing(self._loop)
                else:
                    await self._claim(one.estimate)
                    await self._slots.acquire()
                    delivery = _Spooled()
                tasks.create_task(self._deliver(session, one, delivery))
                with self._changed:
                    self._offered.append(delivery)
                    self._changed.notify()

    async def _deliver(
        self, session: aiohttp.ClientSession, one: Wanted, delivery: _Spooled | _Passing
    ) -> None:
        """Never raises: what went wrong is told to whoever takes the NAR."""
        error: BaseException | None = AbandonedError()
        try:
            if isinstance(delivery, _Passing):
                await delivery.turn.wait()
            await self._download(session, one, _Counted(delivery, self._count))
            error = None
        except Exception as failure:
            error = failure
        finally:
            delivery.end(error)
            if isinstance(delivery, _Spooled):
                self._slots.release()

    async def _download(self, session: aiohttp.ClientSession, one: Wanted, consumer: _Counted) -> None:
        while True:
            token = self._token if one.from_cache else None
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                await download(session, one.url, consumer, headers=headers, size=one.size)
                return
            except AccessError:
                if token is None or not await self._has_new_token(token):
                    raise
            await consumer.restart()

    async def _has_new_token(self, refused: str) -> bool:
        async with self._renewing:
            if self._token != refused:
                return True
            if time.monotonic() - self._renewed_at < _TOKEN_LASTS:
                return False
            self._token = await asyncio.to_thread(self._renew)
            self._renewed_at = time.monotonic()
            return self._token not in (None, refused)

    async def _claim(self, size: int) -> None:
        """Wait for room; one that is larger than all of it gets it alone."""
        while self._held and (self._used + size > _SPOOL or self._held >= _WAITING):
            self._freed.clear()
            await self._freed.wait()
        self._used += size
        self._held += 1

    def _give_back(self, size: int) -> None:
        self._used -= size
        self._held -= 1
        self._freed.set()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *arguments: Any) -> None:
    """Call something in the loop's thread; where that has ended, nobody waits for it any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _spool_folder() -> str | None:
    """On a disk where one can be had: `/tmp` is memory on many machines."""
    if "TMPDIR" in os.environ:
        return None
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # noqa: S108 - the files have no names
