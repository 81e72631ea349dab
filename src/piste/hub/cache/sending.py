"""Objects on their way out: whole, in ranges, or as an address where the client gets them itself.

A file leaves by the kernel where the server can have that done, else in pieces.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from piste.hub.access.records import Actor, Kind
from piste.hub.cache.rules import UnsatisfiableError, accepts_zstd, parse_range
from piste.hub.errors import not_found
from piste.hub.services import Services
from piste.hub.storage.base import LocalFile, Objects, Redirect
from piste.lib.zstd import zstd

YEAR = 31_536_000
_OF_FILES = (errno.EIO, errno.ENOENT, errno.EACCES)
BY_PROXY = (
    "piste.by_proxy"  # in the scope of a request that came through a proxy which may be told to send files
)


def immutable(actor: Actor) -> str:
    """Cache-Control of what never changes. What nobody may read without a credential stays out of shared
    caches.
    """
    scope = "public" if actor.kind is Kind.NOBODY else "private"
    return f"{scope}, max-age={YEAR}, immutable"


async def send_object(
    request: Request,
    objects: Objects,
    key: str,
    *,
    media_type: str,
    etag: str,
    headers: Mapping[str, str],
    by_hub: bool = False,
) -> Response:
    """An object that the caller may read. `etag` is without quotes. `by_hub`: the client is never sent to
    where it would get the object itself, for what needs these headers with the bytes."""
    quoted = f'"{etag}"'
    common = {"ETag": quoted, "Accept-Ranges": "bytes", **headers}
    if matches(request.headers.get("if-none-match"), quoted):
        return Response(status_code=304, headers=common)
    location = await objects.locate(key)
    if isinstance(location, Redirect) and not by_hub:
        return Response(
            status_code=307, headers={**headers, "Cache-Control": "no-store", "Location": location.url}
        )
    size = location.size if isinstance(location, LocalFile) else await objects.size(key)
    if location is None or size is None:
        raise not_found()
    if isinstance(location, LocalFile) and location.internal and request.scope.get(BY_PROXY) and not by_hub:
        # The proxy sends it, and minds ranges itself.
        return Response(headers={**common, "X-Accel-Redirect": location.internal}, media_type=media_type)
    wanted = request.headers.get("range")
    if request.headers.get("if-range", quoted) != quoted:
        wanted = None
    try:
        part = parse_range(wanted, size)
    except UnsatisfiableError:
        return Response(status_code=416, headers={**common, "Content-Range": f"bytes */{size}"})
    start, stop = part or (0, size)
    if part is not None:
        common["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    common["Content-Length"] = str(stop - start)
    status = 200 if part is None else 206
    if not takes_files(request) or not isinstance(location, LocalFile):
        pieces = objects.stream(key, start=start, stop=stop)
        return StreamingResponse(pieces, status_code=status, headers=common, media_type=media_type)
    return FileResponse(
        location.path, start, stop - start, status_code=status, headers=common, media_type=media_type
    )


class FileResponse(Response):
    """A part of a file, by a server that takes files."""

    def __init__(self, path: Path, start: int, count: int, **rest: Any) -> None:
        super().__init__(**rest)
        self._path, self._start, self._count = path, start, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        said: dict[str, Any] = {"piste.path": str(self._path)} if self.status_code == 200 else {}
        with clients_leave():
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await send_by_kernel(send, self._path, self._start, self._count, **said)


async def send_by_kernel(send: Send, path: Path, start: int, count: int, **said: Any) -> None:
    """A part of a file, after the start of an answer; what is `said` goes with it."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        await send(
            {"type": "http.response.zerocopysend", "file": file, "offset": start, "count": count, **said}
        )
    finally:
        os.close(file)


@contextmanager
def clients_leave() -> Iterator[None]:
    """Errors of the client's connection become ClientDisconnect; those of our files stay what they are."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_FILES:
            raise
        raise ClientDisconnect from error


def takes_files(request: Request) -> bool:
    """Whether the server can send files by the kernel."""
    return "http.response.zerocopysend" in request.scope.get("extensions", {})


async def send_json(
    request: Request, services: Services, message: Any, headers: Mapping[str, str]
) -> Response:
    """A message, as zstd for who takes that."""
    data = await services.workers.run(msgspec.json.encode, message)
    headers = {**headers, "Vary": "Accept-Encoding"}
    if accepts_zstd(request.headers.get("accept-encoding", "")):
        data = await services.workers.run(zstd.compress, data, level=3)
        headers["Content-Encoding"] = "zstd"
    return Response(data, media_type="application/json", headers=headers)


def matches(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names this entity tag (with its quotes)."""
    if header is None:
        return False
    return header.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in header.split(",")}
