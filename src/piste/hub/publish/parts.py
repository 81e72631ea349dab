"""Parts of a large upload, sent one by one: a connection that breaks costs one of them, and not all that came
before.

A part is bytes and nothing else. What they are together is verified like any other upload; parts that nobody
puts together are collected.
"""

import os
import re
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final

from piste.hub.access.records import Project
from piste.hub.errors import HubError
from piste.hub.publish.records import PublicationRow
from piste.hub.services import Services
from piste.lib.streams import gathered

PART_LIMIT: Final = 32 << 20  # bytes of one part
MOST: Final = 8_192  # parts of one upload

_UPLOAD: Final = re.compile(r"[0-9a-f]{8,32}")


async def take_part(
    services: Services,
    project: Project,
    publication: PublicationRow,
    place: tuple[str, str],
    body: AsyncIterable[bytes],
) -> None:
    """Keep one part, durably; `place` is the name of the upload and the number of the part."""
    key = _key(publication, place[0], _number(place[1]))
    async with services.workers.place(project.organization):
        descriptor, name = tempfile.mkstemp(dir=services.objects.spool, suffix=".part")
        file = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                async for data in gathered(body):
                    await services.workers.run(opened.write, data)
            await services.objects.put_file(key, file)
        finally:
            await services.workers.run(file.unlink, missing_ok=True)


async def whole_of(
    services: Services, publication: PublicationRow, upload: str, count: str
) -> AsyncIterator[bytes]:
    """The bytes of an upload, of all its parts in order."""
    for number in range(_number(count)):
        key = _key(publication, upload, number)
        if await services.objects.size(key) is None:
            raise HubError("bad-nar", f"Part {number} of the upload is not there.", hint="Send it again.")
        async for data in services.objects.stream(key):
            yield data


async def was_taken(services: Services, publication: PublicationRow, upload: str, count: str) -> bool:
    """Whether an upload was taken before, and the answer was lost: then its first part alone is left."""
    last = _number(count) - 1
    keys = [_key(publication, upload, number) for number in (0, last)]
    first_size, last_size = [await services.objects.size(key) for key in keys]
    return first_size is not None and last_size is None


async def forget(services: Services, publication: PublicationRow, upload: str, count: str) -> None:
    """Remove the parts of an upload that was taken, the last one first; the first one tells of it, until it
    is collected.
    """
    for number in reversed(range(1, _number(count))):
        await services.objects.delete(_key(publication, upload, number))


def _key(publication: PublicationRow, upload: str, number: int) -> str:
    if not _UPLOAD.fullmatch(upload):
        raise HubError("bad-name", "An upload is named by 8 to 32 hex digits.")
    return f"part/{publication.id}-{upload}-{number}.bin"


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MOST:
        raise HubError("bad-name", f"An upload has at most {MOST} parts, numbered from 0.")
    return int(text)
