"""A host's plan: what it is to run, what of that it lacks, and where to get it.

What the host says of itself only makes the answer shorter. It decides about nothing that the host may read,
and naming what one may not know changes nothing.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from piste.hub.access.records import Actor, Project
from piste.hub.cache.reading import sources_at
from piste.hub.errors import not_found
from piste.hub.plan import queries
from piste.hub.plan.bases import may_build_upon
from piste.hub.plan.making import STALE
from piste.hub.plan.manifests import Manifests
from piste.hub.plan.records import Asked
from piste.hub.services import Services
from piste.wire.deltas import DeltaOffer, Deltas
from piste.wire.manifest import Manifest
from piste.wire.plan import (
    FORMAT,
    HAVE_LIMIT,
    PlanAnswer,
    PlanRequest,
    pack_manifest,
    short_hash,
    unpack_paths,
)
from piste.wire.resolution import Resolution

# Of a signature 64 bytes remain, whatever one does: a host that lacks more asks for the rest once it knows
# what it lacks, so that the plan of 10,000 paths stays below 900 kB.
PAGE: Final = 1024


def etag_of(resolution: Resolution) -> str:
    """Changes with the release, with its manifest, and when the organization's keys sign anew."""
    told = [FORMAT, resolution.release_id, resolution.manifest, *resolution.statement_signatures]
    return f'"{hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:32]}"'


class Planner:
    """One of these a process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._manifests = Manifests(services)

    async def plan(
        self, project: Project, actor: Actor, resolution: Resolution, said: PlanRequest
    ) -> PlanAnswer:
        """The whole answer to somebody who may have this output."""
        services = self._services
        manifest = await self._manifests.get(resolution.manifest)
        if manifest is None:
            raise not_found()
        bases = await self._bases(project, actor, said.have)
        base = bases[0] if bases else None
        packed = await services.workers.run(pack_manifest, manifest, base)
        missing = await services.workers.run(_missing, manifest, [held for _, held in bases], said.paths)
        parts = {place: manifest.paths[place].path[:32] for place in missing[:PAGE]}
        sources = await sources_at(services, project, parts)
        token, expires = await services.closures.issue(actor, project.id, resolution.manifest)
        deltas = await self._deltas(Asked(project.id, base[0], resolution.manifest)) if base else None
        return PlanAnswer(
            format=FORMAT,
            resolution=msgspec.structs.replace(resolution, token=token, token_expires_at=expires),
            manifest=packed,
            sources=sources,
            deltas=deltas,
        )

    async def _bases(
        self, project: Project, actor: Actor, named: Sequence[str]
    ) -> list[tuple[str, Manifest]]:
        """Of the manifests that were named, those that the actor may resolve."""
        found = []
        for digest in dict.fromkeys(named[:HAVE_LIMIT]):
            if await may_build_upon(self._services, actor, project, digest):
                manifest = await self._manifests.get(digest)
                if manifest is not None:
                    found.append((digest, manifest))
        return found

    async def _deltas(self, asked: Asked) -> Deltas | None:
        """Those that are there; whatever is not made yet is going to be."""
        services = self._services
        if asked.base == asked.target:
            return None
        pair = await queries.pair(services.database, asked)
        rows = await queries.deltas(services.database, asked) if pair is not None else []
        if pair is None or (
            any(row.size is None for row in rows) and pair.claimed_at < services.clock() - STALE
        ):
            services.deltas.ask(asked)
        offers = [
            DeltaOffer(row.number, row.size, _numbers(row.places), _numbers(row.bases), row.renamed)
            for row in rows
            if row.size
        ]
        if pair is None or not offers:
            return None
        return Deltas(_numbers(pair.places), _numbers(pair.bases), offers)


def _numbers(text: str) -> list[int]:
    return msgspec.json.decode(text, type=list[int])


def _missing(manifest: Manifest, held: Sequence[Manifest], paths: bytes | None) -> list[int]:
    """Places of the paths that a host with these releases and these paths probably lacks, in import order."""
    there = {entry.path for one in held for entry in one.paths}
    # Of what the host names only what the manifest has is kept: it may name a million.
    wanted = {short_hash(entry.path) for entry in manifest.paths}
    short = wanted.intersection(unpack_paths(paths)) if paths is not None else set[int]()
    return [
        place
        for place, entry in enumerate(manifest.paths)
        if entry.path not in there and short_hash(entry.path) not in short
    ]
