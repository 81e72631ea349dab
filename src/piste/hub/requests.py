"""One request as it arrives, before anybody knows what it wants: its id, its client, its bounded body."""

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from piste.hub.errors import HubError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
# In place of an address: whoever came by the socket for a proxy.
PROXY_SOCKET: Final = "unix:"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

STALL_SECONDS: Final = 60.0
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class BoundedBody:
    """A `receive` that counts the body, and gives up on a client that sends nothing for a minute. A body may
    take as long as it needs while something arrives."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._count = 0
        self._patience: float | None = STALL_SECONDS
        self.finished = False

    async def __call__(self) -> Message:
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError as error:
            raise HubError(
                "body-stalled",
                f"Nothing of the body arrived for {STALL_SECONDS:.0f} seconds.",
                hint="Send it again; what was accepted before is kept.",
            ) from error
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self.finished = not message.get("more_body", False)
            if self._count > self._limit:
                raise body_too_large(self._limit)
        return message

    def answered(self) -> None:
        """From now on silence is right: whoever reads a long answer has nothing more to say."""
        self._patience = None


def body_too_large(limit: int) -> HubError:
    return HubError("body-too-large", f"The body is larger than the {limit} bytes that are allowed here.")


def check_declared_length(headers: Sequence[tuple[bytes, bytes]], limit: int) -> None:
    """Refuse at once what says itself that it is too large."""
    declared = header(headers, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise body_too_large(limit)


def header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of that name (lower case)."""
    return next((value for key, value in headers if key.lower() == name), None)


def request_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The client's own if it has a sound form, else a new one."""
    given = (header(headers, b"x-request-id") or b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def client_address(peer: str, headers: Sequence[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """The client's address for logs: X-Forwarded-For is read from its end, as far as trusted proxies wrote
    it."""
    if not trusted and peer != PROXY_SOCKET:
        return peer
    forwarded = (header(headers, b"x-forwarded-for") or b"").decode("latin-1")
    address = peer
    for hop in reversed([hop.strip() for hop in forwarded.split(",")]):
        if not is_trusted(address, trusted) or not _is_address(hop):
            break
        address = hop
    return address


def parse_networks(texts: Sequence[str]) -> list[Network]:
    """Addresses or networks; ValueError for anything else."""
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Whether an address is that of a trusted proxy."""
    if address == PROXY_SOCKET:
        return True
    return _is_address(address) and any(ipaddress.ip_address(address) in network for network in trusted)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
