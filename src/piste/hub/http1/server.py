"""Listens on a socket, gives each request to the application, and stops without losing what is in flight."""

import asyncio
import itertools
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Final

import structlog

from piste.hub.http1.connection import Connection
from piste.hub.http1.cycle import Cycle, GoneError, Message
from piste.hub.http1.memory import Memory
from piste.hub.requests import PROXY_SOCKET

Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
_TICK_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 5.0

_log = structlog.get_logger("piste.hub.requests")


class Server:
    """All connections of one listener, and of a socket for a proxy on this machine beside it."""

    def __init__(
        self,
        application: Application,
        listener: socket.socket,
        memory: Memory,
        proxy_listener: socket.socket | None = None,
    ) -> None:
        self.memory = memory
        self.connections: set[Connection] = set()
        self.stopping = False
        self.now = time.monotonic()  # to the second
        self.date = b""
        self.address = listener.getsockname()[:2]
        self._application = application
        self._listener = listener
        self._proxy_listener = proxy_listener
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._without_connections = asyncio.Event()
        self._without_connections.set()
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(5)

    async def serve(self) -> None:
        """Until `stop`, and then until the last answer is out."""
        lifespan = _Lifespan(self._application)
        await lifespan.start()
        loop = asyncio.get_running_loop()
        ticking = asyncio.create_task(self._tick())
        listening = [await loop.create_server(lambda: Connection(self), sock=self._listener)]
        if self._proxy_listener is not None:
            listening.append(
                await loop.create_unix_server(
                    lambda: Connection(self, PROXY_SOCKET), sock=self._proxy_listener
                )
            )
        try:
            await self._stop.wait()
            for each in listening:
                each.close()
            for connection in [each for each in self.connections if each.is_idle()]:
                connection.close()
            while self._tasks:
                await asyncio.wait(set(self._tasks))
        finally:
            for each in listening:
                each.close()
            for task in self._tasks:
                task.cancel()
            await self._close_all()
            ticking.cancel()
            await lifespan.stop()

    def stop(self) -> None:
        """Take no more connections; what is in flight is answered."""
        self.stopping = True
        self._stop.set()

    def answer(self, cycle: Cycle) -> None:
        """Have a request answered by the application."""
        self.start(cycle, self._by_application(cycle))

    def start(self, cycle: Cycle, answering: Coroutine[Any, Any, None]) -> None:
        """Do what answers a request, and mind its end."""
        task = asyncio.get_running_loop().create_task(self._run(cycle, answering))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def next_id(self) -> bytes:
        """An id for a request that the application does not see."""
        return f"{self._id_prefix}{next(self._ids):x}".encode()

    async def _close_all(self) -> None:
        """What was answered still has to leave this process."""
        for connection in list(self.connections):
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._without_connections.wait()

    def made(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._without_connections.clear()

    def lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._without_connections.set()

    async def _by_application(self, cycle: Cycle) -> None:
        await self._application(cycle.scope(), cycle.receive, cycle.send)

    async def _run(self, cycle: Cycle, answering: Coroutine[Any, Any, None]) -> None:
        try:
            await answering
        except GoneError:
            pass
        except Exception as error:
            _log.warning("answer-cut", error=type(error).__name__)
        finally:
            if not cycle.finished:
                # Only the end of the connection tells the client that its answer is not whole.
                cycle.connection.abort()

    async def _tick(self) -> None:
        while True:
            self.now = time.monotonic()
            self.date = formatdate(usegmt=True).encode()
            for connection in list(self.connections):
                connection.expire(self.now)
            await asyncio.sleep(_TICK_SECONDS)


class _Lifespan:
    """What the application does from start to stop."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._to_application: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._to_application.put_nowait({"type": "lifespan.startup"})
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._task = asyncio.ensure_future(
            _as_coroutine(self._application(scope, self._to_application.get, self._told))
        )
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait([self._task, started], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            started.cancel()
            await self._task

    async def stop(self) -> None:
        self._to_application.put_nowait({"type": "lifespan.shutdown"})
        if self._task is not None:
            await self._task

    async def _told(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._started.set()


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work
