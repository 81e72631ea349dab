"""Many small NARs of one manifest in one answer: their files as they are kept, one after another.

Nothing stands between them, since whoever asks knows each one's length from the manifest's sources. A request
for each of a thousand small files costs both sides more than the files themselves, and a round trip each.
That all of the manifest may be read was decided before; a NAR that an upstream holds is never in a bundle.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
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

PLACES_LIMIT: Final = 512
BYTES_LIMIT: Final = 64 << 20
_PIECE: Final = 256 * 1024
_SMALL: Final = 64 * 1024  # bytes of a file that is read sooner than the kernel is asked to send it
_PLACES: Final = re.compile(r"(?:[0-9]{1,7}(?:-[0-9]{1,7})?)(?:,[0-9]{1,7}(?:-[0-9]{1,7})?)*")


async def files_of(services: Services, project: Project, digest: str, asked: str) -> dict[str, int]:
    """Key and size of each file that is asked for by places of a manifest, in that order; HubError if not all
    of them can be had so.
    """
    contents = await services.closures.contents(digest)
    if contents is None:
        raise not_found()
    places = parse_places(asked)
    if max(places) >= len(contents.listed):
        raise not_found()
    wanted = [contents.listed[place] for place in places]
    rows = await queries.paths_of_project(services.database, project.id, wanted)
    by_part = {row.hash_part: row for row in rows}
    files: dict[str, int] = {}
    for hash_part in wanted:
        row = by_part.get(hash_part)
        if row is None or row.upstream is not None or row.file_size is None:
            raise not_found()
        key = nar_key(row.nar_hash)
        if key in files or await services.objects.size(key) != row.file_size:
            raise not_found()
        files[key] = row.file_size
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


async def pieces_of(objects: Objects, keys: Sequence[str]) -> AsyncIterator[bytes]:
    """The files' bytes; small ones gathered, so that each does not cost a turn of its own."""
    gathered = bytearray()
    for key in keys:
        async for piece in objects.stream(key):
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

    def __init__(self, objects: Objects, files: Sequence[tuple[str, LocalFile]], **rest: Any) -> None:
        super().__init__(**rest)
        self._objects, self._files = objects, files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with clients_leave():
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for small, run in groupby(self._files, key=lambda each: each[1].size < _SMALL):
                if small:
                    async for piece in pieces_of(self._objects, [key for key, _ in run]):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                else:
                    for _, file in run:
                        await send_by_kernel(send, file.path, 0, file.size, more_body=True)
            await send({"type": "http.response.body", "body": b""})


async def respond(request: Request, objects: Objects, files: Mapping[str, int], **rest: Any) -> Response:
    """All of them, as the server here sends them best."""
    keys = list(files)
    if takes_files(request):
        found = [(key, await objects.locate(key)) for key in keys]
        local = [(key, location) for key, location in found if isinstance(location, LocalFile)]
        if len(local) == len(keys):
            return BundleResponse(objects, local, **rest)
    return StreamingResponse(pieces_of(objects, keys), **rest)
