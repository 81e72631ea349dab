"""One request and its answer, as ASGI wants them: `receive` gives the body, `send` takes the answer.

Bodies wait in memory up to a bound only, in both directions; then the other side waits. An answer may send a
part of a file (`http.response.zerocopysend`) and may say that it can be given again (`piste.keep`, and for a
whole file the `piste.path` that it is found by).
"""

import asyncio
import errno
import os
import socket
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from piste.hub.http1.memory import Answer, FileAnswer, Keep
from piste.hub.http1.sendfile import CHUNK, send_part, writable

if TYPE_CHECKING:
    from piste.hub.http1.connection import Connection

Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]

# What this server can do beyond plain ASGI.
EXTENSIONS: Final[dict[str, Any]] = {"http.response.zerocopysend": {}, "piste.keep": {}}
SEND_STALL_SECONDS: Final = 120.0
_BODY_WAITING: Final = 256 << 10
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_WITHOUT_BODY: Final = (204, 304)


class GoneError(OSError):
    """The client has gone."""


class Cycle:
    """One exchange on a connection. `keep_alive`: whether another may follow."""

    def __init__(
        self, connection: "Connection", method: str, target: bytes, version: str, headers: Headers
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = True
        self.expects_continue = False
        self.body_complete = False
        self.kept_as: tuple[bytes, bytes, int] | None = None  # line, headers, generation: may be kept so
        self.begun = False  # its answer
        self.finished = False
        self._version = version
        self._body = bytearray()
        self._told_end = False
        self._arrived = asyncio.Event()
        self._start: Message | None = None
        self._chunked = False
        self._left: int | None = None  # of the answer's body, where its length is known
        self._gone = False
        self._unturned = 0  # bytes of files since others had their turn

    def scope(self) -> dict[str, Any]:
        """What the application is told of the request."""
        path, _, query = self.target.partition(b"?")
        server = self.connection.server
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._version,
            "method": self.method,
            "scheme": "http",
            "path": unquote(path.decode("latin-1")) if b"%" in path else path.decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": (self.connection.peer, 0),
            "server": server.address,
            "state": {},
            "extensions": EXTENSIONS,
        }

    # What the connection tells.

    def feed(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > _BODY_WAITING:
            self.connection.pause_reading()
        self._arrived.set()

    def complete(self) -> None:
        self.body_complete = True
        self._arrived.set()

    def disconnect(self) -> None:
        self._gone = True
        self._arrived.set()

    # What the application calls.

    async def receive(self) -> Message:
        if self.expects_continue and not self.begun and not self._body:
            self.expects_continue = False
            self.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._gone:
            if self._body:
                return self._piece()
            if self.body_complete and not self._told_end:
                self._told_end = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.finished:
                break
            self._arrived.clear()
            self.connection.resume_reading()
            await self._arrived.wait()
        return {"type": "http.disconnect"}

    def _piece(self) -> Message:
        body = bytes(self._body)
        self._body.clear()
        self._told_end = self.body_complete
        if not self.body_complete:
            self.connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    async def send(self, message: Message) -> None:
        if self._gone:
            raise GoneError("the client has gone")
        match message["type"]:
            case "http.response.start":
                self._start = message
            case "http.response.body":
                await self._send_body(message.get("body", b""), message.get("more_body", False))
            case "http.response.zerocopysend":
                await self._send_file(message)

    async def _send_body(self, body: bytes, more: bool) -> None:
        head = b""
        start = self._start
        if start is not None:
            head = self._head(start, len(body) if not more else None)
            self._start = None
            if (keep := start.get("piste.keep")) is not None and not more:
                self._keep(keep, b"%b\r\n%b" % (_kept_headers(start), body))
        if self.method == "HEAD" or self._left == 0:
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        elif self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
        if head or body:
            self.connection.write(head + body)
        if not more:
            self._end()
        else:
            await self.connection.drained()

    async def _send_file(self, message: Message) -> None:
        """The head, and a part of a file: both by the socket itself, once the transport has nothing left."""
        count: int = message["count"]
        head = b""
        start = self._start
        if start is not None:
            head, self._start = self._head(start, count), None
            if (keep := start.get("piste.keep")) is not None and "piste.path" in message:
                self._keep(keep, FileAnswer(b"%b\r\n" % _kept_headers(start), message["piste.path"], count))
        await self._send_part(head, message["file"], message["offset"], count)
        self._unturned += count
        if self._unturned >= CHUNK:
            self._unturned = 0
            await asyncio.sleep(0)  # the turn of others, where small files make one large answer
        if self._left is not None:
            self._left -= count
        if not message.get("more_body", False):
            self._end()

    async def send_again(self, head: bytes, file: int, count: int) -> None:
        """An answer from memory: its head, and all of the file, which is closed."""
        try:
            await self._send_part(head, file, 0, count)
        except OSError as error:
            if error.errno == errno.EIO:
                raise
            raise GoneError("the client has gone, or takes nothing") from error
        finally:
            os.close(file)
        self._end()

    async def _send_part(self, head: bytes, file: int, offset: int, count: int) -> None:
        if self.connection.holds_unsent:
            async with asyncio.timeout(SEND_STALL_SECONDS):
                await self.connection.flushed()
            if self._gone:
                raise GoneError("the client has gone")
        with self.connection.duplicate() as out:
            await _send_all(out, head)
            if self.method != "HEAD":
                await send_part(out, file, offset, count, SEND_STALL_SECONDS)

    def _head(self, start: Message, length: int | None) -> bytes:
        status: int = start["status"]
        lines = [_STATUS_LINES[status], b"date: ", self.connection.server.date, b"\r\n"]
        declared: int | None = None
        for name, value in start["headers"]:
            if b"\n" in value or b"\r" in value:
                raise ValueError("a header would end before its value does")
            lines += (name, b": ", value, b"\r\n")
            if name.lower() == b"content-length":
                declared = int(value)
        if status in _WITHOUT_BODY:
            self._left = 0
        elif declared is not None:
            self._left = declared
        elif self.method != "HEAD" and length is not None:
            self._left = length
            lines.append(b"content-length: %d\r\n" % length)
        elif self.method != "HEAD" and self._version == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif self.method != "HEAD":
            self.keep_alive = False
        # What of the body has not come by now would stand before the next request.
        self.keep_alive = self.keep_alive and self.body_complete and not self.connection.server.stopping
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self._version == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self.begun = True
        return b"".join(lines)

    def _keep(self, keep: Keep, answer: Answer) -> None:
        """What stands after the id of the request, which every answer has its own of."""
        if self.kept_as is None or not self.keep_alive or self.method != "GET" or self._version != "1.1":
            return
        line, headers, generation = self.kept_as
        memory, peer = self.connection.server.memory, self.connection.peer
        memory.keep(peer, line, headers, keep, answer, generation)

    def _end(self) -> None:
        if self._left and self.method != "HEAD":
            # Less than was promised: only the end of the connection tells the client.
            self.keep_alive = False
        self.finished = True
        self._arrived.set()
        self.connection.answered(self)


def _kept_headers(start: Message) -> bytes:
    return b"".join(b"%b: %b\r\n" % each for each in start["headers"] if each[0].lower() != b"x-request-id")


async def _send_all(out: socket.socket, data: bytes) -> None:
    """The head, held back until the file's first bytes go with it."""
    view = memoryview(data)
    while view:
        try:
            view = view[out.send(view, socket.MSG_MORE) :]
        except BlockingIOError:
            async with asyncio.timeout(SEND_STALL_SECONDS):
                await writable(out)
