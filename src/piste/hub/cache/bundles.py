"""Many small NARs of one manifest in one answer: their files as they are kept, one after another.

Nothing stands between them, since whoever asks knows each one's length from the manifest's sources. A request
for each of a thousand small files costs both sides more than the files themselves, and a round trip each.
That all of the manifest may be read was decided before; a NAR that an upstream holds is never in a bundle.
"""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from piste.hub.access.records import Project
from piste.hub.cache import queries
from piste.hub.cache.keep import nar_key
from piste.hub.cache.sending import clients_leave, send_by_kernel, takes_files
from piste.hub.errors import HubError, not_found
from piste.hub.services import Services
from piste.hub.storage.base import LocalFile, Objects
from piste.hub.storage.local import read_file

PLACES_LIMIT: Final = 512
BYTES_LIMIT: Final = 64 << 20
_PIECE: Final = 256 * 1024
_SMALL: Final = 64 * 1024  # bytes of a file that is read sooner than the kernel is asked to send it
_PLACES: Final = re.compile(r"(?:[0-9]{1,7}(?:-[0-9]{1,7})?)(?:,[0-9]{1,7}(?:-[0-9]{1,7})?)*")


async def files_of(services: Services, project: Project, digest: str, asked: str) -> dict[str, int]:
    """Key and size of each file that is asked for by places of a manifest, in that order; HubError if not all
    of them can be had so. Whether they are there is not looked at yet.
    """
    contents = await services.closures.contents(digest)
    if contents is None:
        raise not_found()
    places = parse_places(asked)
    if max(places) >= len(contents.listed):
        raise not_found()
    wanted = [contents.listed[place] for place in places]
    kept = await queries.files_of_project(services.database, project.id, wanted)
    files: dict[str, int] = {}
    for hash_part in wanted:
        if hash_part not in kept:
            raise not_found()
        nar_hash, size = kept[hash_part]
        if (key := nar_key(nar_hash)) in files:
            raise not_found()
        files[key] = size
    if sum(files.values()) > BYTES_LIMIT:
        raise _too_much(PLACES_LIMIT)
    return files


def parse_places(text: str, limit: int = PLACES_LIMIT) -> list[int]:
    """`3-5,9` is 3, 4, 5 and 9; at most `limit` of them."""
    if len(text) > 16 * limit or not _PLACES.fullmatch(text):
        raise HubError("bad-request", "`places` must be numbers and ranges of numbers, such as 3-5,9.")
    places: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, stop = int(first), int(last or first) + 1
        if len(places) + stop - start > limit:
            raise _too_much(limit)
        places.extend(range(start, stop))
    if not places:
        raise HubError("bad-request", "`places` names none.")
    return places


async def _streamed(objects: Objects, keys: Iterable[str]) -> AsyncIterator[bytes]:
    for key in keys:
        async for piece in objects.stream(key):
            yield piece


async def _read(files: Iterable[LocalFile]) -> AsyncIterator[bytes]:
    for file in files:
        yield await read_file(file.path, file.size)


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in larger pieces, so that each small file does not cost a turn of its own."""
    gathered = bytearray()
    async for piece in pieces:
        gathered += piece
        if len(gathered) >= _PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _too_much(limit: int) -> HubError:
    return HubError(
        "bad-request",
        f"One request can have {limit} NARs and {BYTES_LIMIT >> 20} MiB.",
        hint="Ask for them in several requests.",
    )


class BundleResponse(Response):
    """The files by a server that takes files: what is not small goes by the kernel."""

    def __init__(self, files: Sequence[LocalFile], **rest: Any) -> None:
        super().__init__(**rest)
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with clients_leave():
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for small, run in groupby(self._files, key=lambda each: each.size < _SMALL):
                if small:
                    async for piece in _gathered(_read(run)):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                else:
                    for file in run:
                        await send_by_kernel(send, file.path, 0, file.size, more_body=True)
            await send({"type": "http.response.body", "body": b""})


async def respond(request: Request, objects: Objects, files: Mapping[str, int], **rest: Any) -> Response:
    """All of them, as the server here sends them best; HubError if one is not there."""
    if takes_files(request):
        found = [await objects.locate(key) for key in files]
        local = [location for location in found if isinstance(location, LocalFile)]
        if [location.size for location in local] == list(files.values()):
            return BundleResponse(local, **rest)
    for key, size in files.items():
        if await objects.size(key) != size:
            raise not_found()
    return StreamingResponse(_gathered(_streamed(objects, files)), **rest)
