"""What handlers read requests and write answers with. Bodies are bounded by the route: dispatch counts what
comes in."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from piste.hub.errors import HubError
from piste.hub.routing import Exchange
from piste.wire.errors import ErrorBody, Problem

T = TypeVar("T")


async def read_json(exchange: Exchange, into: type[T], *, empty: T | None = None) -> T:
    """The body as a message; HubError `bad-request` says what is wrong with it, and where. `empty` is what no
    body at all means, where it means something."""
    pieces = [piece async for piece in stream_body(exchange)]
    if not pieces and empty is not None:
        return empty
    try:
        return msgspec.json.decode(b"".join(pieces), type=into)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HubError("bad-request", f"The body is not the message that belongs here: {error}") from error


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
