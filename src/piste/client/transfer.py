"""Many bytes from hubs and upstream caches: several connections, bounded memory.

The only module that imports aiohttp, which takes a third of a second to start. A transfer has no limit on
its whole time, only on silence. A download that breaks off goes on where it was.
"""

import asyncio
from collections.abc import Mapping
from typing import BinaryIO, Final, Protocol

import aiohttp

from piste.client.hub import answer_error, tls_context, unreachable
from piste.client.proxy import proxy_for
from piste.lib.errors import PisteError
from piste.lib.retry import Backoff

PIECE: Final = 256 * 1024  # below it system calls cost more than copying, above it memory grows for nothing
_CONNECT: Final = 15.0  # seconds until a connection stands
_STALL: Final = 30.0  # seconds without a byte until a transfer counts as broken
_SMALL_ANSWER: Final = 1 << 20  # a narinfo with 5,000 references takes 300 kB
_PASSING: Final = frozenset((429, 500, 502, 503, 504))  # statuses after which trying again may help

# Not OSError as a whole: a consumer whose disk is full is not helped by another attempt.
Failure: Final = (aiohttp.ClientError, TimeoutError, ConnectionError)


class Consumer(Protocol):
    """What takes the bytes of a download, in order. `restart` is called when they begin anew."""

    async def write(self, data: bytes) -> None: ...

    async def restart(self) -> None: ...


class FileConsumer:
    """A download into a file that is open for writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()

    async def write(self, data: bytes) -> None:
        self._file.write(data)

    async def restart(self) -> None:
        self._file.seek(self._start)
        self._file.truncate()


def open_session(connections: int = 8, *, secure: bool = True) -> aiohttp.ClientSession:
    """A session for one command; `secure` is false where every address is plain http."""
    connector = aiohttp.TCPConnector(limit=connections, ssl=tls_context() if secure else False)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_STALL)
    # Not trust_env: that would also take credentials from a netrc, and every request here says by
    # itself which it sends.
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)


async def download(
    session: aiohttp.ClientSession,
    url: str,
    consumer: Consumer,
    *,
    headers: Mapping[str, str] | None = None,
    size: int | None = None,
    backoff: Backoff | None = None,
) -> int:
    """Bring the bytes of `url` to `consumer`, going on where a connection broke; how many there were.

    `size` is what is expected: another length is the error `transfer-cut`. Credentials in `headers` are
    not sent on to another host when the answer is a redirect.
    """
    attempt = _Download(session, url, consumer, dict(headers or {}), size)
    waits = (backoff or Backoff(attempts=5)).waits()
    while True:
        before = attempt.received
        try:
            await attempt.run()
        except Failure as error:
            if attempt.received > before:
                # Progress starts the count anew: a long transfer may break more often than a short one.
                waits = (backoff or Backoff(attempts=5)).waits()
            wait = next(waits, None)
            if wait is None:
                raise unreachable(url.partition("?")[0], _as_os_error(error)) from error
            await asyncio.sleep(wait)
        else:
            return attempt.received


class _Download:
    """One download over several attempts; `received` bytes have been handed over."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        consumer: Consumer,
        headers: dict[str, str],
        size: int | None,
    ) -> None:
        self._session = session
        self._url = url
        self._consumer = consumer
        self._headers = headers
        self._size = size
        self._tag: str | None = None
        self.received = 0

    async def run(self) -> None:
        headers = self._headers | {"Accept-Encoding": "identity"}
        if self.received:
            headers["Range"] = f"bytes={self.received}-"
            if self._tag:
                headers["If-Range"] = self._tag
        async with self._session.get(self._url, headers=headers, proxy=proxy_for(self._url)) as response:
            if response.status in _PASSING:
                raise aiohttp.ClientPayloadError(f"status {response.status}")
            if response.status == 416 and self.received == self._size:
                return
            if response.status not in (200, 206):
                data = await _small(response)
                raise answer_error(
                    self._url, response.status, data, logged_in="Authorization" in self._headers
                )
            await self._take(response)
        if self._size is not None and self.received != self._size:
            raise aiohttp.ClientPayloadError(f"{self.received} bytes instead of {self._size}")

    async def _take(self, response: aiohttp.ClientResponse) -> None:
        if self.received and not _continues(response, self.received):
            await self._consumer.restart()
            self.received = 0
        self._tag = response.headers.get("ETag")
        async for piece in response.content.iter_chunked(PIECE):
            if self._size is not None and self.received + len(piece) > self._size:
                raise PisteError(
                    "transfer-mismatch",
                    f"{self._url} is longer than the {self._size} bytes that were promised.",
                )
            await self._consumer.write(piece)
            self.received += len(piece)


async def _small(response: aiohttp.ClientResponse) -> bytes:
    """A short answer, in however many pieces it comes; of a longer one a little more than may be there."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > _SMALL_ANSWER:
            break
    return bytes(data)


def _continues(response: aiohttp.ClientResponse, start: int) -> bool:
    """Whether the answer goes on at `start`; a server may answer with the whole instead."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


async def fetch_text(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None
) -> str | None:
    """A short text such as a narinfo; None where there is none, or none that can be had now."""
    waits = Backoff().waits()
    while True:
        try:
            async with session.get(url, headers=headers, proxy=proxy_for(url)) as response:
                if response.status == 200:
                    data = await _small(response)
                    return data.decode() if len(data) <= _SMALL_ANSWER else None
                if response.status not in _PASSING:
                    return None
        except (*Failure, UnicodeDecodeError):
            pass  # like a passing status: tried again below
        wait = next(waits, None)
        if wait is None:
            return None
        await asyncio.sleep(wait)


def _as_os_error(error: BaseException) -> Exception:
    """What to call a failure of the transfer in a message."""
    if isinstance(error, TimeoutError):
        return OSError(None, f"no byte for {_STALL:.0f} seconds")
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    return error if isinstance(error, Exception) else OSError(str(error))
