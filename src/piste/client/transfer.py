"""Small answers of upstream caches, many at once.

The only module that imports aiohttp, which takes a third of a second to start; what a host fetches comes by
`client.download`. A transfer has no limit on its whole time, only on silence.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import aiohttp

from piste.client.hub import tls_context
from piste.client.proxy import proxy_for
from piste.lib.retry import Backoff

_CONNECT: Final = 15.0  # seconds until a connection stands
_STALL: Final = 30.0  # seconds without a byte until a transfer counts as broken
_SMALL_ANSWER: Final = 1 << 20  # a narinfo with 5,000 references takes 300 kB
_PASSING: Final = frozenset((429, 500, 502, 503, 504))  # statuses after which trying again may help

# Not OSError as a whole: a disk that is full is not helped by another attempt.
Failure: Final = (aiohttp.ClientError, TimeoutError, ConnectionError)


def open_session(connections: int = 8, *, secure: bool = True) -> aiohttp.ClientSession:
    """A session for one command; `secure` is false where every address is plain http."""
    connector = aiohttp.TCPConnector(limit=connections, ssl=tls_context() if secure else False)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_STALL)
    # Not trust_env: that would also take credentials from a netrc, and every request here says by
    # itself which it sends.
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)


async def _small(response: aiohttp.ClientResponse) -> bytes:
    """A short answer, in however many pieces it comes; of a longer one a little more than may be there."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > _SMALL_ANSWER:
            break
    return bytes(data)


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
