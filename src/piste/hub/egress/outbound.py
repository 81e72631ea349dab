"""Fetches a document for somebody: over TLS, from an address that was looked up once and checked, bounded in
size and time, without redirects, cookies, proxies or credentials.

It must never tell the one it fetches for more than that it did not work: what it saw goes to the log.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from piste.hub.egress.rules import (
    Address,
    Allowances,
    EgressError,
    StatusError,
    Target,
    parse_target,
    permitted,
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

SECONDS: Final = 5.0  # for all of it: name, connection, answer
LIMIT: Final = 256 * 1024
_HEADERS: Final = {"User-Agent": "piste-hub", "Accept": "application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Fetched:
    """A document as it came; names of headers are lower case."""

    body: bytes
    headers: Mapping[str, str]


async def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this machine resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Egress:
    """The way out of one hub process."""

    def __init__(self, allowances: Allowances, *, resolve: Resolve = look_up) -> None:
        self._allowances = allowances
        self._resolve = resolve
        self._tls: ssl.SSLContext | None = None

    async def fetch(self, url: str, *, limit: int = LIMIT, seconds: float = SECONDS) -> Fetched:
        """The document at an address; EgressError when it can't be had or may not be asked for."""
        target = parse_target(url)
        try:
            async with asyncio.timeout(seconds):
                addresses = permitted(target, await self._resolve(target.host, target.port), self._allowances)
                return await self._get(target, addresses, limit)
        except TimeoutError as error:
            raise EgressError(f"no whole answer within {seconds:g} seconds") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise EgressError(f"{type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def visit(self, url: str, *, connections: int, seconds: float = SECONDS) -> AsyncIterator["Visit"]:
        """For many documents below one address: its name is looked up once, connections are kept."""
        target = parse_target(url)
        try:
            async with asyncio.timeout(seconds):
                resolved = await self._resolve(target.host, target.port)
        except (TimeoutError, OSError) as error:
            raise EgressError(f"{type(error).__name__}: {error}") from error
        addresses = permitted(target, resolved, self._allowances)
        async with self._session(addresses, connections=connections) as session:
            yield Visit(session, target, seconds)

    async def _get(self, target: Target, addresses: Sequence[Address], limit: int) -> Fetched:
        async with self._session(addresses) as session:
            return await _get(session, target, limit)

    def _session(self, addresses: Sequence[Address], *, connections: int = 0) -> aiohttp.ClientSession:
        """`connections`: how many are kept; 0: one that is closed after use."""
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses),
            use_dns_cache=False,
            force_close=not connections,
            limit=connections or 1,
            ssl=self._context(),
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class Visit:
    """A way out to one host that stays open for a while."""

    def __init__(self, session: aiohttp.ClientSession, target: Target, seconds: float) -> None:
        self._session = session
        self._target = target
        self._seconds = seconds

    async def fetch(self, url: str, *, limit: int = LIMIT) -> Fetched:
        """A document of the same host; EgressError when it can't be had."""
        target = parse_target(url)
        if (target.host, target.port) != (self._target.host, self._target.port):
            raise EgressError("another host than was to be visited")
        try:
            async with asyncio.timeout(self._seconds):
                return await _get(self._session, target, limit)
        except TimeoutError as error:
            raise EgressError(f"no whole answer within {self._seconds:g} seconds") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise EgressError(f"{type(error).__name__}: {error}") from error


async def _get(session: aiohttp.ClientSession, target: Target, limit: int) -> Fetched:
    async with session.get(URL(target.url, encoded=True), allow_redirects=False) as response:
        return await _read(response, limit)


async def _read(response: aiohttp.ClientResponse, limit: int) -> Fetched:
    if response.status != 200:
        raise StatusError(response.status)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise EgressError("the answer is compressed, which was not asked for")
    body = bytearray()
    async for piece in response.content.iter_chunked(64 * 1024):
        body += piece
        if len(body) > limit:
            raise EgressError(f"more than {limit} bytes")
    return Fetched(bytes(body), {name.lower(): value for name, value in response.headers.items()})


class _Pinned(AbstractResolver):
    """Answers with what was looked up and checked before, so that nobody resolves the name a second time."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        return None
