"""One connection: what arrives becomes requests, one at a time answered in their order.

llhttp takes requests apart, and is strict: two lengths, a length beside chunks, a line that ends as none
should, are errors. What was answered a moment ago, byte for byte the same request, is answered from memory
before that.
"""

import asyncio
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from piste.hub.http1.cycle import Cycle, GoneError, Headers
from piste.hub.http1.memory import FileAnswer

if TYPE_CHECKING:
    from piste.hub.http1.server import Server

HEADER_BYTES: Final = 64 << 10
HEADERS: Final = 100
# How long a client may take for a request's head, and do nothing between two requests. A proxy before the hub
# keeps its connections for 20 seconds, so that it never takes one that ends in this moment.
IDLE_SECONDS: Final = 75.0
HEAD_SECONDS: Final = 30.0
LINGER_SECONDS: Final = 2.0
_WRITE_WAITING: Final = 512 << 10
AHEAD: Final = 16  # requests that a client may send before it has the answer to the first
_VERSION: Final = b" HTTP/1.1\r\n"
_END: Final = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 with one client."""

    def __init__(self, server: "Server", peer: str | None = None) -> None:
        """`peer`: who is at the other end, where that is not an address."""
        self.server = server
        self.peer = peer or "-"
        self.since = server.now  # when it became idle, or its head began to arrive
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._cycle: Cycle | None = None
        self._waiting: deque[Cycle] = deque()  # pipelined
        self._parsing: Cycle | None = None  # whose body arrives
        self._target = bytearray()
        self._headers: Headers = []
        self._head_bytes = 0
        self._in_head = False
        self._refused = 0
        self._lingering = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._kept_as: tuple[bytes, bytes, int] | None = None

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_WAITING)
        if (address := transport.get_extra_info("peername")) and self.peer == "-":
            self.peer = address[0]
        self.server.made(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.server.lost(self)
        self._writable.set()
        for cycle in (self._cycle, self._parsing, *self._waiting):
            if cycle is not None:
                cycle.disconnect()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._cycle is None and self._parsing is None and not self._in_head:
            self.since = self.server.now
            if self._answer_from_memory(data):
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._close_after_answer()
        except httptools.HttpParserError:
            self._refuse(self._refused or 400)
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES:
                self._refuse(431 if self._headers else 414)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable.clear()
        if self._cycle is None:
            self.pause_reading()  # who takes no answers asks no more

    def resume_writing(self) -> None:
        self._writable.set()
        if self._cycle is None:
            self.resume_reading()

    def _answer_from_memory(self, data: bytes) -> bool:
        """One whole request without a body, whose answer is known. What it was made for had neither a
        length nor chunks, so that nothing of another request can hide in it."""
        self._kept_as = None
        line, version, headers = data.partition(_VERSION)
        if not version or not line.startswith(b"GET /") or not headers.endswith(_END):
            return False
        server = self.server
        answer = server.memory.find(self.peer, line, headers)
        if answer is None:
            if headers.index(_END) == len(headers) - len(_END):
                self._kept_as = (line, headers, server.memory.generation)
            return False
        start = b"HTTP/1.1 200 OK\r\ndate: %b\r\nx-request-id: %b\r\n" % (server.date, server.next_id())
        if isinstance(answer, FileAnswer):
            return self._send_file_again(line, start, answer)
        self._transport.write(start + answer)
        return True

    def _send_file_again(self, line: bytes, start: bytes, answer: FileAnswer) -> bool:
        try:
            file = os.open(answer.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False  # whoever answers anew says why
        cycle = Cycle(self, "GET", line, "1.1", [])
        cycle.complete()
        self._cycle = cycle
        self.server.start(cycle, cycle.send_again(start + answer.head, file, answer.size))
        return True

    # The parser's side.

    def on_message_begin(self) -> None:
        self._target.clear()
        self._headers = []
        self._head_bytes = 0
        self._in_head = True
        self.since = self.server.now

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        if len(self._target) > HEADER_BYTES:
            self._refused = 414
            raise ValueError("the target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        if len(self._headers) > HEADERS or sum(map(_size, self._headers)) > HEADER_BYTES:
            self._refused = 431
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        self._in_head = False
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refused = 505
            raise ValueError("no such version")
        method = self._parser.get_method().decode()
        cycle = Cycle(self, method, _path_of(bytes(self._target)), version, self._headers)
        cycle.keep_alive = self._parser.should_keep_alive()
        names = {name for name, _ in self._headers}
        cycle.expects_continue = b"expect" in names and version == "1.1"
        if not names & {b"content-length", b"transfer-encoding", b"expect", b"x-request-id", b"upgrade"}:
            cycle.kept_as = self._kept_as
        self._kept_as = None
        self._parsing = cycle
        if self._cycle is None:
            self._begin(cycle)
            return
        if len(self._waiting) == AHEAD:
            raise ValueError("too many requests ahead of their answers")
        self._waiting.append(cycle)
        self.pause_reading()

    def on_body(self, piece: bytes) -> None:
        if self._parsing is not None:
            self._parsing.feed(piece)

    def on_message_complete(self) -> None:
        if self._parsing is not None:
            self._parsing.complete()
            self._parsing = None

    # The cycle's side.

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drained(self) -> None:
        """Until the client has taken enough for more to be written."""
        await self._writable.wait()

    @property
    def holds_unsent(self) -> bool:
        """Whether something that was written waits in this process."""
        return self._transport.get_write_buffer_size() > 0

    async def flushed(self) -> None:
        """Until nothing does."""
        self._transport.set_write_buffer_limits(high=0)
        try:
            while self._transport.get_write_buffer_size() > 0 and not self._transport.is_closing():
                await asyncio.sleep(0)
                await self._writable.wait()
        finally:
            self._transport.set_write_buffer_limits(high=_WRITE_WAITING)

    def duplicate(self) -> socket.socket:
        """A second handle on the connection, since the first belongs to the transport; the caller closes
        it."""
        if self._transport.is_closing():
            raise GoneError("the client has gone")
        own = self._transport.get_extra_info("socket")
        # Without the three, each duplicate would be asked for them.
        duplicate = socket.socket(own.family, own.type, own.proto, socket.dup(own.fileno()))
        duplicate.setblocking(False)
        return duplicate

    def pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused or self._waiting or self._transport.is_closing():
            return
        if self._cycle is not None or self._writable.is_set():
            self._paused = False
            self._transport.resume_reading()

    def answered(self, cycle: Cycle) -> None:
        """The answer of the first cycle is complete."""
        self._cycle = None
        self.since = self.server.now
        if not cycle.keep_alive or not cycle.body_complete:
            self._linger()
        elif self._waiting:
            self._begin(self._waiting.popleft())
        elif self._writable.is_set():
            self.resume_reading()
        else:
            self.pause_reading()

    def _begin(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self.server.answer(cycle)

    # The end.

    def is_idle(self) -> bool:
        return self._cycle is None

    def abort(self) -> None:
        """At once, where an answer was begun that can't be ended."""
        self._transport.abort()

    def close(self) -> None:
        self._transport.close()

    def expire(self, now: float) -> None:
        """Close what has been silent for too long, or has not got on with a request."""
        if self._cycle is not None:
            return  # its sender has a patience of its own
        if self._lingering:
            patience = LINGER_SECONDS
        elif self._in_head:
            patience = HEAD_SECONDS
        else:
            patience = IDLE_SECONDS
        if now - self.since > patience:
            self._transport.close()

    def _close_after_answer(self) -> None:
        """What follows is in a protocol that is not spoken here."""
        if self._cycle is not None:
            self._cycle.keep_alive = False

    def _refuse(self, status: int) -> None:
        """Requests that came before are answered first, as far as they are on their way."""
        if self._cycle is None:
            self._transport.write(b"HTTP/1.1 %d -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
            self._linger()
            return
        self._cycle.keep_alive = False
        if self._parsing is self._cycle:
            self._cycle.disconnect()  # its body will never be whole
        self._waiting.clear()
        self._lingering = True

    def _linger(self) -> None:
        """Say that no more comes, and read on for a moment: a close with unread bytes would take the
        answer back out of the client's hands."""
        self._lingering = True
        self.since = self.server.now
        self._paused = False
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()


def _path_of(target: bytes) -> bytes:
    """Of an absolute address what comes after its host; never a fragment."""
    if not target.startswith(b"/") and b"://" in target:
        _, _, rest = target.partition(b"://")
        _, slash, path = rest.partition(b"/")
        target = slash + path or b"/"
    return target.partition(b"#")[0]


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1])
