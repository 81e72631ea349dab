"""What a host may name as what it runs: a release of the same project that the same credential may resolve.

Anything else (another project's manifest, another output's, a version outside of the requirement, a yanked
release) is treated like one that nobody has heard of: it changes nothing in the answer.
"""

import re
from typing import Final

from piste.hub.access.authenticate import NOBODY
from piste.hub.access.records import Actor, Kind, Project
from piste.hub.cache import queries as cache_queries
from piste.hub.registry import queries
from piste.hub.services import Services

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


async def may_build_upon(services: Services, actor: Actor, project: Project, digest: str) -> bool:
    """Whether a manifest is of a release that the actor may resolve; for a closure token the actor is the one
    that it was made for."""
    if not _DIGEST.fullmatch(digest):
        return False
    if not await cache_queries.has_manifest(services.database, project.id, digest):
        return False
    asking = await _asking(services, actor)
    if asking is None:
        return False
    return any(
        services.guard.may_resolve_exactly(asking, project, row["version"], row["attribute"])
        for row in await queries.releases_of_manifest(services.database, project.id, digest)
    )


async def _asking(services: Services, actor: Actor) -> Actor | None:
    if actor.kind is not Kind.CLOSURE or actor.closure is None:
        return actor
    if not actor.closure.parent:
        return NOBODY
    return await services.authenticator.holder(actor.closure.parent)
