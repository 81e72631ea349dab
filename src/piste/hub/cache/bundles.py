"""Many small NARs of one manifest in one answer: their files as they are kept, one after another.

Nothing stands between them, since whoever asks knows each one's length from the manifest's sources. A request
for each of a thousand small files costs both sides more than the files themselves, and a round trip each.
That all of the manifest may be read was decided before; a NAR that an upstream holds is never in a bundle.
"""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from piste.hub.access.records import Project
from piste.hub.cache import queries
from piste.hub.cache.keep import nar_key
from piste.hub.errors import HubError, not_found
from piste.hub.services import Services
from piste.hub.storage.base import Objects

PLACES_LIMIT: Final = 512
BYTES_LIMIT: Final = 64 << 20
_PIECE: Final = 256 * 1024
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
