"""The plan of a deployment, asked of the hub: one request, whose answer travels as zstd."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from urllib.parse import urlencode

import msgspec

from piste.client.address import segments
from piste.client.hub import HubConnection
from piste.lib.decompress import DecompressError, decompressor
from piste.lib.errors import PisteError
from piste.wire.plan import FORMAT, PackedSources, PlanAnswer, PlanRequest

_LIMIT: Final = 256 << 20  # bytes of an answer once it is expanded
_PLACES: Final = 4096  # that may be asked for at once


@dataclass(frozen=True)
class Planned:
    """An answer, and what to name to hear only whether it still holds; no answer: it does."""

    answer: PlanAnswer | None
    etag: str


def ask_plan(
    hub: HubConnection,
    output: tuple[str, str, str, str],
    have: Sequence[str],
    paths: bytes | None,
    etag: str | None,
) -> Planned:
    """The plan for an output: organization, project, requirement, attribute path. `have` are manifests of
    releases that run here; `paths` are `pack_paths` of the store's, where there are none.
    """
    organization, project, requirement, attribute = output
    path = segments("api", "v1", "projects", organization, project, "plan", requirement, attribute)
    target = hub.address.prefix + path
    headers = {"If-None-Match": etag} if etag is not None else {}
    if paths is None:
        query = urlencode([("have", digest.removeprefix("sha256:")) for digest in have])
        found, tag = _get(hub, target + (f"?{query}" if query else ""), headers)
    else:
        body = msgspec.json.encode(PlanRequest(list(have), paths))
        found, tag = _get(hub, target, headers, body)
    answer = hub.decode(found, PlanAnswer) if found is not None else None
    if answer is not None and answer.format != FORMAT:
        raise PisteError("bad-answer", f"{hub.url} answers with the plan format {answer.format!r}.")
    return Planned(answer, tag or etag or "")


def ask_sources(cache: HubConnection, manifest: str, places: Sequence[int]) -> Iterator[PackedSources]:
    """Where the NARs at these places of a manifest (`sha256:<hex>`) are, page by page. `cache` is the
    project's."""
    target = cache.address.prefix + segments("manifest", manifest.removeprefix("sha256:"), "sources")
    for start in range(0, len(places), _PLACES):
        data, _ = _get(cache, f"{target}?places={format_places(places[start : start + _PLACES])}", {})
        yield cache.decode(data or b"", PackedSources)


def _get(
    hub: HubConnection, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> tuple[bytes | None, str | None]:
    sent = {"Accept-Encoding": "zstd", **headers}
    method = "GET" if body is None else "POST"
    with hub.open(method, target, body, headers=sent, repeatable=True) as response:
        tag = response.getheader("ETag")
        if response.status == 304:
            return None, tag
        data = response.read(_LIMIT + 1)
        if response.getheader("Content-Encoding") == "zstd":
            data = _expanded(hub, data)
    if len(data) > _LIMIT:
        raise PisteError("bad-answer", f"{hub.url} answered with more than can be right.")
    return data, tag


def _expanded(hub: HubConnection, data: bytes) -> bytes:
    expanded = bytearray()
    reader = decompressor("zstd")
    try:
        for piece in reader.feed(data):
            expanded += piece
            if len(expanded) > _LIMIT:
                break
        else:
            reader.finish()
    except DecompressError as error:
        raise PisteError("bad-answer", f"{hub.url} answered with something damaged: {error}.") from error
    return bytes(expanded)


def format_places(places: Sequence[int]) -> str:
    """Places in their order as an address has them: `3-5,9`."""
    starts = [places[0]] + [later for earlier, later in pairwise(places) if later != earlier + 1]
    ends = [earlier for earlier, later in pairwise(places) if later != earlier + 1] + [places[-1]]
    return ",".join(
        f"{start}-{end}" if end > start else f"{start}" for start, end in zip(starts, ends, strict=True)
    )
