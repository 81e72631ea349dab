"""What handlers read requests and write answers with. Bodies are bounded by the route: dispatch counts what
comes in."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec
from starlette.responses import Response

from piste.hub.access.records import Actor
from piste.hub.errors import HubError
from piste.hub.routing import Exchange
from piste.wire.errors import ErrorBody, Problem

# Bytes of bodies that one caller may have held in memory at a time; more than the largest message that there
# is. All those without a credential are one caller.
HELD: Final = 40 << 20
HELD_FOR_NOBODY: Final = 16 << 20
# What a body may have beside that, so that those who fill it up don't stop anybody's usual request.
FREE: Final = 64 << 10

T = TypeVar("T")


class Holding:
    """What one request holds of its body."""

    def __init__(self, by_caller: dict[str, int], caller: str) -> None:
        self._by_caller = by_caller
        self._caller = caller
        self._count = self._counted = 0

    def add(self, count: int) -> None:
        """Before so many bytes more are kept; HubError when the caller has too many under way."""
        self._count += count
        more = max(0, self._count - FREE) - self._counted
        limit = HELD if self._caller else HELD_FOR_NOBODY
        if more and self._by_caller[self._caller] + more > limit:
            raise HubError(
                "overloaded", "Too many large requests are under way.", hint="Try again in a minute."
            )
        self._by_caller[self._caller] += more
        self._counted += more

    def release(self) -> None:
        self._by_caller[self._caller] -= self._counted
        if not self._by_caller[self._caller]:
            del self._by_caller[self._caller]


_held: Final[dict[str, int]] = defaultdict(int)


@contextmanager
def holding(actor: Actor) -> Iterator[Holding]:
    """Counts what is kept of a body while it arrives, which is as slowly as its sender likes."""
    identity = actor.trusted.use if actor.trusted is not None else None
    held = Holding(_held, actor.person or actor.token or identity or "")
    try:
        yield held
    finally:
        held.release()


async def read_json(exchange: Exchange, into: type[T], *, empty: T | None = None) -> T:
    """The body as a message; HubError `bad-request` says what is wrong with it, and where. `empty` is what no
    body at all means, where it means something."""
    data = await whole_body(exchange)
    return empty if not data and empty is not None else message_from(data, into)


def message_from(data: bytearray, into: type[T]) -> T:
    """A body as a message; as `read_json`."""
    try:
        return msgspec.json.decode(data, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubError("bad-request", f"The body is not the message that belongs here: {error}") from error


async def whole_body(exchange: Exchange) -> bytearray:
    """All of the body, where it is a message; the route bounds it. Once in memory, never twice."""
    data = bytearray()
    with holding(exchange.actor) as held:
        async for piece in stream_body(exchange):
            held.add(len(piece))
            data += piece
        return data


async def stream_body(exchange: Exchange) -> AsyncIterator[bytes]:
    """The pieces of the body. It ends only where the body does: a client that goes away raises
    ClientDisconnect, one that stalls and one that sends too much raise HubError."""
    async for piece in exchange.request.stream():
        if piece:
            yield piece


def json_response(message: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A message, or a list of them."""
    return Response(msgspec.json.encode(message), status, headers=headers, media_type="application/json")


def error_response(error: HubError, request_id: str) -> Response:
    """The one shape of an error."""
    problem = Problem(
        ref=error.ref,
        message=error.message,
        hint=error.hint,
        context=error.context,
        request_id=request_id,
    )
    response = json_response(ErrorBody(problem), error.status)
    if error.status == 401:
        response.headers.append("WWW-Authenticate", "Bearer")
        response.headers.append("WWW-Authenticate", 'Basic realm="piste"')
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
