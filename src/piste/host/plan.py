"""Stage 2, authorised → planned: what the closure consists of, and which of its paths this host lacks.

One request tells all of it: what a reference means, the closure, and where its NARs are. The host says which
releases it runs, so that the answer is short; what it really lacks, Nix says. The manifest is believed
because the signed statement names its digest; addresses are believed for nothing.
"""

import contextlib
import os
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

import msgspec

from piste.client.address import parse_address
from piste.client.api import HubClient
from piste.client.credentials import Credential
from piste.client.hub import HubConnection
from piste.client.planning import ask_plan, ask_sources
from piste.host.deltas import Rebuilding, choose, chosen_again
from piste.host.memory import Memory, Remembered
from piste.host.place import Host
from piste.host.records import Authorised, Plan
from piste.host.resolve import renewed
from piste.lib.errors import PisteError
from piste.nix.flake_ref import Reference, format_attribute_path
from piste.nix.store_path import STORE_DIR, StorePath
from piste.nixcmd.daemon import Daemon
from piste.wire.manifest import Manifest, ManifestError, UnknownFormatError, decode_manifest
from piste.wire.plan import (
    HAVE_LIMIT,
    PackedSources,
    PlanAnswer,
    pack_paths,
    unpack_manifest,
)
from piste.wire.resolution import ManifestSources, Resolution
from piste.wire.runs import PlanError
from piste.wire.sources import Sources

# Of the plan's own request; a hub that has no such route knows the older questions.
_NO_PLANS: Final = frozenset(("bad-answer", "not-found"))
_TOLD: Final = 100_000  # paths of a store that are told of at once
_ASKED: Final = 4096  # paths that the daemon is asked for at once


@dataclass(frozen=True)
class Told:
    """What the hub answered, before anything of it is believed."""

    question: str
    resolution: Resolution
    etag: str = ""
    answer: PlanAnswer | None = None
    held: Remembered | None = None  # what was told before, and still holds


def ask(hub: HubClient, host: Host, memory: Memory, reference: Reference, running: str | None) -> Told:
    """Ask what a reference means and what it takes to have it, in one request where the hub can do that."""
    question = f"{hub.url} {reference}"
    attribute = format_attribute_path(reference.attribute)
    output = (reference.organization, reference.project, reference.requirement, attribute)
    held = memory.answer(question)
    known = memory.releases(reference.organization, reference.project, running)[:HAVE_LIMIT]
    have = [one.resolution.manifest for one in known]
    try:
        paths = None if have else _store_paths(host)
        planned = ask_plan(hub, output, have, paths, held.etag if held is not None else None)
    except PisteError as error:
        if error.ref not in _NO_PLANS:
            raise
        return Told(question, hub.resolve(*output, token=True))
    if planned.answer is not None:
        return Told(question, planned.answer.resolution, planned.etag, planned.answer)
    if held is None:
        raise PisteError("bad-answer", f"{hub.url} says that nothing has changed, and was not asked that.")
    return Told(question, held.resolution, held.etag, held=held)


def make_plan(
    hub: HubClient,
    host: Host,
    memory: Memory,
    told: Told,
    authorised: Authorised,
    daemon: Daemon,
) -> Plan:
    """What there is to do, once what the hub told is authorised."""
    token = authorised.resolution.token
    manifest, sources = _manifest(hub, host, told, memory, authorised)
    missing = _missing(manifest, daemon)
    unknown = [place for place in missing if place not in sources]
    if missing and token is None:
        token = renewed(hub, host, authorised).resolution.token
    if unknown:
        with _cache(hub, host, authorised, token) as cache:
            for packed in ask_sources(cache, authorised.statement.manifest, unknown):
                _take(packed, sources)
            token = cache.token
    if lost := [place for place in missing if place not in sources]:
        path = manifest.paths[lost[0]].path
        raise PisteError("bad-answer", f"The hub tells nothing of {path}, which is part of the release.")
    sizes = _file_sizes(manifest, sources, told, memory)
    rebuilding = _rebuilding(told, memory, manifest, sources, missing, daemon)
    return Plan(
        manifest,
        sources,
        missing,
        _bytes_to_fetch(manifest, sources, missing, rebuilding),
        sum(entry.nar_size if size < 0 else size for size, entry in zip(sizes, manifest.paths, strict=True)),
        token,
        sizes,
        rebuilding,
    )


def plan_again(plan: Plan, spoiled: Collection[int], daemon: Daemon) -> Plan:
    """What is left of a plan that failed in the middle, without the deltas of these numbers."""
    missing = _missing(plan.manifest, daemon)
    if any(place not in plan.sources for place in missing):
        raise PisteError(
            "path-not-valid", "Paths that were there have been deleted meanwhile.", hint="Try again."
        )
    rebuilding = chosen_again(plan.rebuilding, spoiled, missing, daemon)
    return msgspec.structs.replace(
        plan,
        missing=missing,
        bytes_to_fetch=_bytes_to_fetch(plan.manifest, plan.sources, missing, rebuilding),
        rebuilding=rebuilding,
    )


def _bytes_to_fetch(
    manifest: Manifest, sources: Sources, missing: Sequence[int], rebuilding: Rebuilding
) -> int:
    made = rebuilding.places
    whole = sum(estimate(manifest, sources, place) for place in missing if place not in made)
    return whole + sum(offer.size for offer in rebuilding.offers)


def _rebuilding(
    told: Told,
    memory: Memory,
    manifest: Manifest,
    sources: Sources,
    missing: list[int],
    daemon: Daemon,
) -> Rebuilding:
    if told.answer is None or (digest := told.answer.manifest.base) is None:
        return Rebuilding()
    sizes = {place: estimate(manifest, sources, place) for place in missing}
    base = memory.manifest(digest)
    return choose(told.answer.deltas, digest, base, manifest, sizes, daemon, memory.speed)


@contextlib.contextmanager
def _cache(hub: HubClient, host: Host, authorised: Authorised, token: str | None) -> Iterator[HubConnection]:
    """The cache that the closure is read from, with the token that reads exactly that, or its successor."""
    with HubConnection(cache_credential(authorised.resolution.cache_url, token)) as cache:
        if token is not None:
            cache.use_token(token, lambda: renewed(hub, host, authorised).resolution.token or token)
        yield cache


def cache_credential(cache_url: str, token: str | None) -> Credential:
    """A cache, and the token of a closure in it."""
    return Credential(parse_address(cache_url), token)


def estimate(manifest: Manifest, sources: Sources, place: int) -> int:
    """How many bytes a NAR has on its way; that of the NAR itself where the hub does not know."""
    return sources.file_size(place) or manifest.paths[place].nar_size


def _missing(manifest: Manifest, daemon: Daemon) -> list[int]:
    """Places of the paths that are not there; those that are stay while the daemon's connection lasts."""
    paths = manifest.paths
    while True:
        valid = _valid(manifest, range(len(paths)), daemon)
        # What a kept path refers to is kept as well, so it is enough to keep those that no other one refers
        # to.
        below = bytearray(len(paths))
        for place in compress(range(len(paths)), valid):
            for index in paths[place].references:
                below[index] |= index != place
        daemon.add_temp_roots(
            StorePath.from_base_name(paths[place].path)
            for place in compress(range(len(paths)), valid)
            if not below[place]
        )
        # The garbage collector may have been between the question and the roots.
        if _valid(manifest, list(compress(range(len(paths)), valid)), daemon) == valid:
            return [place for place in range(len(paths)) if not valid[place]]


def _valid(manifest: Manifest, places: Sequence[int], daemon: Daemon) -> bytearray:
    """By place, whether the path is there, if it is one of `places`."""
    valid = bytearray(len(manifest.paths))
    for start in range(0, len(places), _ASKED):
        some = places[start : start + _ASKED]
        paths = [StorePath.from_base_name(manifest.paths[place].path) for place in some]
        there = daemon.query_valid_paths(paths)
        for place, path in zip(some, paths, strict=True):
            valid[place] = path in there
    return valid


def _manifest(
    hub: HubClient, host: Host, told: Told, memory: Memory, authorised: Authorised
) -> tuple[Manifest, Sources]:
    """The closure, which has to be the one that the statement names; and what is told of its NARs."""
    digest, answer = authorised.statement.manifest, told.answer
    try:
        if answer is not None:
            base = answer.manifest.base
            held = memory.manifest(base) if base is not None else None
            bases = {base: held} if base is not None and held is not None else {}
            manifest = unpack_manifest(answer.manifest, digest, bases)
            sources = Sources(manifest)
            _take(answer.sources, sources)
        elif told.held is not None and (kept := memory.manifest(digest)) is not None:
            manifest, sources = kept, Sources(kept)
        else:
            manifest, sources = _asked_apart(hub, host, authorised)
    except UnknownFormatError as error:
        raise PisteError("manifest-unknown", f"The manifest can't be understood: {error}.") from error
    except ManifestError as error:
        raise PisteError("bad-manifest", f"The hub's manifest can't be used: {error}.") from error
    if f"{STORE_DIR}/{manifest.root.path}" != authorised.store_path or manifest.store_dir != STORE_DIR:
        raise PisteError("bad-manifest", "The manifest is that of another store path than the release's.")
    return manifest, sources


def _asked_apart(hub: HubClient, host: Host, authorised: Authorised) -> tuple[Manifest, Sources]:
    """From a hub that has no plans: the manifest as it lies, and where all of its NARs are."""
    digest = authorised.statement.manifest
    with _cache(hub, host, authorised, authorised.resolution.token) as cache:
        manifest = decode_manifest(cache.request("GET", ("manifest", digest.removeprefix("sha256:"))), digest)
        data = cache.request("GET", ("manifest", digest.removeprefix("sha256:"), "sources"))
    try:
        found = msgspec.json.decode(data, type=ManifestSources).sources
    except msgspec.DecodeError as error:
        raise PisteError("bad-answer", f"The hub's list of NARs can't be read: {error}.") from error
    if len(found) != len(manifest.paths):
        raise PisteError("bad-answer", "The hub tells of other paths than the release's manifest does.")
    sources = Sources(manifest)
    for place, source in enumerate(found):
        sources.put(place, source)
    return manifest, sources


def _take(packed: PackedSources, sources: Sources) -> None:
    try:
        sources.add(packed)
    except PlanError as error:
        raise PisteError("bad-answer", f"The hub's list of NARs can't be read: {error}.") from error


def _file_sizes(manifest: Manifest, sources: Sources, told: Told, memory: Memory) -> Sequence[int]:
    """By place, -1 where it is not known; of what is here already, as it was told when it came."""
    sizes = array("q", [-1]) * len(manifest.paths)
    for place in sources:
        size = sources.file_size(place)
        sizes[place] = -1 if size is None else size
    unknown = {manifest.paths[place].nar_hash for place, size in enumerate(sizes) if size < 0}
    known: dict[str, int] = {}
    for one in memory.releases(told.resolution.organization, told.resolution.project, None):
        if len(known) == len(unknown):
            break
        # Usually the newest tells all of them; to read each takes time and memory.
        if (older := memory.manifest(one.resolution.manifest)) is not None:
            told_of = ((older.paths[at].nar_hash, size) for at, size in one.sizes().items())
            known |= {nar_hash: size for nar_hash, size in told_of if nar_hash in unknown}
    for place, size in enumerate(sizes):
        if size < 0:
            sizes[place] = known.get(manifest.paths[place].nar_hash, -1)
    return sizes


def _store_paths(host: Host) -> bytes | None:
    """What is in the store, valid or not, as the hub is told of it; None where there is nothing to tell."""
    with contextlib.suppress(OSError):
        with os.scandir(host.store.real_path(STORE_DIR)) as found:
            parts = [each.name[:32] for each in found if each.name[32:33] == "-"]
        if 0 < len(parts) <= _TOLD:
            return pack_paths(parts)
    return None
