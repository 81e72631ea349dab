"""Step 5: paths that an upstream cache holds are pinned to it instead of uploaded.

Only what an upstream's key has signed is looked for, and the hub checks the signature again. An upstream
that does not answer costs an upload, never the publication.
"""

import asyncio
from collections.abc import Mapping, Sequence

from piste.nix.narinfo import NarInfoError, PathInfo, parse_narinfo
from piste.wire.organizations import Upstream

Pin = tuple[str, str]  # the upstream's address, and the narinfo as it serves it

_CONNECTIONS = 32  # narinfos are small: what counts is round trips


def find_pins(infos: Sequence[PathInfo], upstreams: Sequence[Upstream]) -> dict[PathInfo, Pin]:
    """Those of `infos` that an upstream holds as they are here."""
    wanted = [(info, upstream) for info in infos if (upstream := _signer(info, upstreams)) is not None]
    return asyncio.run(_fetch(wanted)) if wanted else {}


def _signer(info: PathInfo, upstreams: Sequence[Upstream]) -> Upstream | None:
    signers = {signature.partition(":")[0] for signature in info.signatures}
    for upstream in upstreams:
        if any(key.partition(":")[0] in signers for key in upstream.public_keys):
            return upstream
    return None


async def _fetch(wanted: Sequence[tuple[PathInfo, Upstream]]) -> dict[PathInfo, Pin]:
    from piste.client.transfer import fetch_text, open_session  # slow to import, and seldom needed

    async with open_session(_CONNECTIONS) as session:

        async def one(info: PathInfo, upstream: Upstream) -> tuple[PathInfo, Pin] | None:
            url = f"{upstream.url.rstrip('/')}/{info.path.hash_part}.narinfo"
            text = await fetch_text(session, url)
            return (info, (upstream.url, text)) if text is not None and _agrees(info, text) else None

        found = await asyncio.gather(*(one(info, upstream) for info, upstream in wanted))
    return dict(pair for pair in found if pair is not None)


def _agrees(info: PathInfo, text: str) -> bool:
    """Whether the upstream has the same content under this path."""
    try:
        theirs = parse_narinfo(text).info
    except NarInfoError:
        return False
    return (theirs.path, theirs.nar_hash, theirs.nar_size, theirs.references) == (
        info.path,
        info.nar_hash,
        info.nar_size,
        info.references,
    )


def by_key(upstreams: Sequence[Upstream], addresses: Sequence[str]) -> list[Upstream]:
    """Those upstreams that a publication may pin to."""
    allowed: Mapping[str, None] = dict.fromkeys(addresses)
    return [upstream for upstream in upstreams if upstream.url in allowed]
