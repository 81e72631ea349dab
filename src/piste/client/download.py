"""Bytes of large answers over http.client: a connection for each thread, and nothing that takes time to load.

Blocking. One attempt at a time: what to do after a failure, the caller knows. A credential goes to the origin
that it was given for, and is not sent on when that answers with a redirect to another.
"""

import http.client
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final, Self
from urllib.parse import urljoin, urlsplit

from piste.client.address import HubAddress, parse_address
from piste.client.hub import USER_AGENT, answer_error, connect
from piste.client.proxy import proxy_for
from piste.lib.errors import PisteError

PIECE: Final = 128 * 1024  # above it memory grows for nothing: each thread has one
_RECORD: Final = 16 * 1024  # what TLS gives at a time; room for more would be got for nothing, and given back
_HELD: Final = 0.02  # seconds that what came waits for more: on a slow line it would be lost to a kill
_CONNECT: Final = 15.0  # seconds until a connection stands
_STALL: Final = 30.0  # seconds without a byte until a transfer counts as broken
_SMALL_ANSWER: Final = 1 << 20
_REDIRECTS: Final = 5
_PASSING: Final = frozenset((429, 500, 502, 503, 504))  # statuses after which trying again may help
_REDIRECT: Final = frozenset((301, 302, 303, 307, 308))


class BrokenTransferError(OSError):
    """An answer that is cut, or one of a server that can't answer now: trying again may help."""


# Not OSError as a whole: a caller whose disk is full is not helped by another attempt.
Failure: Final = (
    BrokenTransferError,
    ConnectionError,
    TimeoutError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
    http.client.HTTPException,
)


class Downloader:
    """The connections of one thread, one to each origin; another thread may only `abort` them."""

    def __init__(self) -> None:
        self._connections: dict[tuple[str, str, int], http.client.HTTPConnection] = {}
        self._aborted = False

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def abort(self) -> None:
        """From another thread: make what is under way fail now."""
        self._aborted = True
        for connection in list(self._connections.values()):
            if (one := connection.sock) is not None:
                try:
                    # Not the method of a TLS socket, which would take its state away from its own thread.
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
                except OSError:
                    continue

    def receive(
        self,
        url: str,
        write: Callable[[bytes], None],
        *,
        headers: Mapping[str, str],
        start: int = 0,
        size: int | None = None,
        part: bool = False,
    ) -> None:
        """Give the bytes of `url` from `start` on to `write`: `size` of them, or all if it is not known.

        `part`: more follows after them, so they have to be asked for as a range. One of Failure means that
        another attempt may succeed; what was written before it stands.
        """
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        if start or part:
            end = start + size - 1 if part and size is not None else ""
            sent["Range"] = f"bytes={start}-{end}"
        response, connection = self._open(url, sent)
        try:
            self._take(url, response, _Gathering(write, connection), start, size, part)
        except BaseException:
            self._forget(url)
            raise

    def _take(
        self,
        url: str,
        response: http.client.HTTPResponse,
        gathering: "_Gathering",
        start: int,
        size: int | None,
        part: bool,
    ) -> None:
        skipped = start if response.status == 200 else 0  # the server knows no ranges
        found = (response.getheader("Content-Range") or "").strip()
        if response.status == 206 and not found.startswith(f"bytes {start}-"):
            raise BrokenTransferError(f"a range was asked for from {start}, and came as {found!r}")
        left = size
        with gathering:
            while left != 0 and (piece := response.read1(gathering.at_once)):
                if skipped:
                    piece, skipped = piece[skipped:], max(0, skipped - len(piece))
                if left is not None:
                    if len(piece) > left and part:
                        piece = piece[:left]
                    left -= len(piece)
                    if left < 0:
                        raise _too_long(url, size)
                gathering.add(piece)
        if left or (left is None and response.length):
            raise BrokenTransferError(f"it ended {left or response.length} bytes early")
        self._rest(url, response, size, part)

    def _rest(self, url: str, response: http.client.HTTPResponse, size: int | None, part: bool) -> None:
        """Read the end of an answer, which frees its connection; nothing may be there any more."""
        if response.length == 0:
            response.read()  # nothing: it is what tells http.client that this was all
        if response.isclosed():
            return
        if response.status == 200 and part:
            self._forget(url)  # the whole of it comes, and only a part was wanted
        elif response.read1(1):
            raise _too_long(url, size)

    def _open(self, url: str, headers: Mapping[str, str]) -> tuple[http.client.HTTPResponse, socket.socket]:
        asked, sent = url, dict(headers)
        for _ in range(_REDIRECTS):
            response, connection = self._request(asked, sent)
            if response.status in (200, 206):
                return response, connection
            target = response.getheader("Location")
            data = response.read(_SMALL_ANSWER)
            if not response.isclosed():
                self._forget(asked)
            if response.status in _PASSING:
                raise BrokenTransferError(f"status {response.status}")
            if response.status not in _REDIRECT or not target:
                shown = asked.partition("?")[0]
                raise answer_error(shown, response.status, data, logged_in="Authorization" in sent)
            onward = urljoin(asked, target)
            if _origin(onward) != _origin(asked):
                sent.pop("Authorization", None)
            asked = onward
        raise PisteError("bad-answer", f"{url.partition('?')[0]} leads from one address to the next.")

    def _request(
        self, url: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, socket.socket]:
        origin = _origin(url)
        kept = self._connections.get(origin)
        if kept is not None:
            try:
                return self._ask(kept, url, headers)
            except (ConnectionError, http.client.HTTPException):
                # The server had closed it, as it may at any time between two requests.
                self._forget(url)
        self._connections[origin] = connection = _connection(origin)
        try:
            _establish(connection)
            return self._ask(connection, url, headers)
        except BaseException:
            self._forget(url)
            raise

    def _ask(
        self, connection: http.client.HTTPConnection, url: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, socket.socket]:
        if self._aborted:
            raise ConnectionAbortedError
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if parts.scheme == "http" and proxy_for(url) is not None:
            target = url  # which tells the proxy where to go on to
        connection.request("GET", target, headers=dict(headers))
        under_way: socket.socket = connection.sock  # which an answer that ends the connection takes with it
        return connection.getresponse(), under_way

    def _forget(self, url: str) -> None:
        if (connection := self._connections.pop(_origin(url), None)) is not None:
            connection.close()


class _Gathering:
    """What comes goes on in larger pieces where more is there already: TLS gives 16 kB at a time, and each
    piece costs everyone whom it passes the same. Use it in a `with` block; what came before an error goes on
    too.
    """

    def __init__(self, write: Callable[[bytes], None], connection: socket.socket) -> None:
        self._write = write
        self.at_once = _RECORD if isinstance(connection, ssl.SSLSocket) else PIECE
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._held: list[bytes] = []
        self._size = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pass_on()

    def add(self, piece: bytes) -> None:
        now = time.monotonic()
        if not self._held:
            self._since = now
        self._held.append(piece)
        self._size += len(piece)
        full = self._size + self.at_once > PIECE or now - self._since > _HELD
        if full or not self._poll.poll(0):
            self._pass_on()

    def _pass_on(self) -> None:
        held, self._held, self._size = b"".join(self._held), [], 0
        if held:
            self._write(held)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PisteError("bad-answer", f"{url.partition('?')[0]} is not an address that can be fetched from.")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _connection(origin: tuple[str, str, int]) -> http.client.HTTPConnection:
    scheme, host, port = origin
    address = HubAddress(scheme, host, port, "")
    proxy = proxy_for(address.url) if scheme == "http" else None
    if proxy is not None:
        way = parse_address(proxy)
        return http.client.HTTPConnection(way.host, way.port, timeout=_CONNECT)
    return connect(address, _CONNECT)


def _establish(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except (*Failure, ssl.SSLError):
        raise
    except OSError as error:  # no such name, no way there: either may pass
        raise BrokenTransferError(error.errno, error.strerror) from error
    connection.sock.settimeout(_STALL)


def _too_long(url: str, size: int | None) -> PisteError:
    return PisteError(
        "transfer-mismatch",
        f"{url.partition('?')[0]} is longer than the {size} bytes that were promised.",
    )
