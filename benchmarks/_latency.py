"""A line with a round trip and a bandwidth: a proxy on loopback that holds back what passes, as netem would.

Bytes of either direction wait half a round trip, those of a new connection a whole one more, as the handshake
of TCP takes. A bandwidth is that of each direction, and shared fairly by the connections, as good routers do.
Slow start and loss are not there, so a real line is slower than this.
"""

import asyncio
import socket
import threading
import time
from collections import deque
from typing import Final, Self, cast

import uvloop

_HELD: Final = 64 << 20  # bytes on their way in one direction: at 100 ms that is 640 MB/s
_PIECE: Final = 1 << 20
_QUEUED: Final = 256 << 10  # bytes of one connection that wait for their turn where there is a bandwidth
_TURN: Final = 16 << 10
# Timers are good to a millisecond, and earlier by less than one is no gain worth waiting for.
_SLACK: Final = 0.0005
_LATE: Final = 0.004  # what a timer is late at most, and may be made up for
MBIT: Final = 125_000.0  # bytes a second


class Line:
    """Passes connections on to `target`. Use it in a `with` block."""

    def __init__(self, round_trip: float = 0.0, bandwidth: float | None = None) -> None:
        self.round_trip = round_trip  # of connections that are made from now on
        self.target = 0
        self.port = 0
        self.passed = 0  # bytes, in both directions
        self._loop = uvloop.new_event_loop()
        self.up, self.down = (_Pipe(self._loop, bandwidth) if bandwidth else None for _ in range(2))
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = listener.getsockname()[1]
        server = self._loop.run_until_complete(self._loop.create_server(lambda: _Near(self), sock=listener))
        self._ready.set()
        self._loop.run_forever()
        server.close()


class _Pipe:
    """One direction of a line with a bandwidth, in bytes a second: its connections take turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bandwidth: float) -> None:
        self._loop = loop
        self.bandwidth = bandwidth
        self._turns: deque[_Way] = deque()
        self._free = 0.0  # when all that was let through before has left
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, way: "_Way") -> None:
        """A connection that has had nothing to send has something now."""
        self._turns.append(way)
        if self._timer is None:
            self._run()

    def _run(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._free = max(self._free, now - _LATE)
        while self._turns and self._free <= now + _SLACK:
            way = self._turns.popleft()
            size, more = way.leave(max(self._free, now))
            self._free += size / self.bandwidth
            if more:
                self._turns.append(way)
        if self._turns:
            self._timer = self._loop.call_at(self._free, self._run)


class _Way:
    """One direction of a connection: what came, and when it may arrive."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, delay: float, first: float, pipe: _Pipe | None = None
    ) -> None:
        self._loop = loop
        self._delay = delay
        self._first = first  # nothing arrives before
        self._pipe = pipe
        self._waiting: deque[bytes] = deque()  # for their turn in the pipe
        self._queue: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._limit = _HELD if pipe is None else _QUEUED + int(pipe.bandwidth * delay)
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self._paused = False
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None

    def put(self, data: bytes) -> None:
        """Take bytes on their way; none are the end."""
        self._held += len(data)
        if self._held > self._limit and not self._paused and self.source is not None:
            self._paused = True
            self.source.pause_reading()
        if self._pipe is None:
            self._travel(self._loop.time(), data)
            return
        idle = not self._waiting
        self._waiting.append(data)
        if idle:
            self._pipe.ask(self)

    def leave(self, now: float) -> tuple[int, bool]:
        """Let a turn's worth into the pipe: its size, and whether there is more."""
        data = self._waiting.popleft()
        if len(data) > _TURN:
            self._waiting.appendleft(data[_TURN:])
            data = data[:_TURN]
        self._travel(now, data)
        return len(data), bool(self._waiting)

    def _travel(self, now: float, data: bytes) -> None:
        self._queue.append((max(now + self._delay, self._first), data))
        self.pass_on()

    def block(self, blocked: bool) -> None:
        """Whether the far end takes nothing for now."""
        self._blocked = blocked
        self.pass_on()

    def pass_on(self) -> None:
        """Let through what is due."""
        if self.sink is None or self._blocked or self._timer is not None:
            return
        now = self._loop.time() + _SLACK
        while self._queue and self._queue[0][0] <= now and not self._blocked:
            self._write(self._queue.popleft()[1])
        if self._queue and not self._blocked:
            self._timer = self._loop.call_at(self._queue[0][0], self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.pass_on()

    def _write(self, data: bytes) -> None:
        sink = cast(asyncio.Transport, self.sink)
        if sink.is_closing():  # nobody is there any more to take it
            return
        if not data:
            sink.close()
            return
        sink.write(data)
        self._held -= len(data)
        if self._paused and self._held <= self._limit and self.source is not None:
            self._paused = False
            if not self.source.is_closing():
                self.source.resume_reading()


class _End(asyncio.Protocol):
    """One of the two ends: puts what comes on its way out, and takes what the way in lets through."""

    out: _Way
    into: _Way

    def __init__(self, line: Line) -> None:
        self._line = line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.out.source = self.into.sink = cast(asyncio.Transport, transport)
        self.into.pass_on()

    def data_received(self, data: bytes) -> None:
        self._line.passed += len(data)
        self.out.put(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.out.put(b"")

    def pause_writing(self) -> None:
        self.into.block(True)

    def resume_writing(self) -> None:
        self.into.block(False)


class _Near(_End):
    """The end that the client sees."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        loop, trip = asyncio.get_running_loop(), self._line.round_trip
        now = loop.time()
        self.out = _Way(loop, trip / 2, now + 1.5 * trip, self._line.up)
        self.into = _Way(loop, trip / 2, now, self._line.down)
        super().connection_made(transport)
        far = _Far(self._line, self.into, self.out)
        self._connecting = loop.create_task(
            loop.create_connection(lambda: far, "127.0.0.1", self._line.target)
        )


class _Far(_End):
    """The end that the server sees."""

    def __init__(self, line: Line, out: _Way, into: _Way) -> None:
        super().__init__(line)
        self.out, self.into = out, into


def throughput(round_trip: float, size: int = 512 << 20, bandwidth: float | None = None) -> float:
    """MB a second through a line, by one connection: what the line itself could be blamed for."""
    with Line(round_trip, bandwidth) as line, socket.create_server(("127.0.0.1", 0)) as server:
        line.target = server.getsockname()[1]
        sender = threading.Thread(target=_send, args=(server, size))
        sender.start()
        began = time.perf_counter()
        received, buffer = 0, bytearray(_PIECE)
        with socket.create_connection(("127.0.0.1", line.port)) as client:
            while count := client.recv_into(buffer):
                received += count
        seconds = time.perf_counter() - began
        sender.join()
    if received != size:
        raise SystemExit(f"the line passed {received} of {size} bytes")
    return size / seconds / 1e6


def _send(server: socket.socket, size: int) -> None:
    connection, _ = server.accept()
    piece = bytes(_PIECE)
    with connection:
        for _ in range(size // _PIECE):
            connection.sendall(piece)
