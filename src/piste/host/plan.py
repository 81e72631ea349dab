"""Stage 2, authorised → planned: what the closure consists of, and which of its paths this host lacks.

One request tells all of it: what a reference means, the closure, and where its NARs are. The host says which
releases it runs, so that the answer is short; what it really lacks, Nix says. The manifest is believed
because the signed statement names its digest; addresses are believed for nothing.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from piste.client.address import parse_address
from piste.client.api import HubClient
from piste.client.credentials import Credential
from piste.client.hub import HubConnection
from piste.client.planning import ask_plan, ask_sources
from piste.host.deltas import Rebuilding, choose
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
    unpack_sources,
)
from piste.wire.resolution import ManifestSources, NarSource, Resolution
from piste.wire.runs import PlanError

# Of the plan's own request; a hub that has no such route knows the older questions.
_NO_PLANS: Final = frozenset(("bad-answer", "not-found"))
_TOLD: Final = 100_000  # paths of a store that are told of at once


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
    manifest, sources = _manifest(told, memory, authorised)
    missing = _missing(manifest, daemon)
    unknown = [place for place in missing if place not in sources]
    if missing and token is None:
        token = renewed(hub, host, authorised).resolution.token
    if unknown:
        with HubConnection(cache_credential(authorised, token)) as cache:
            sources |= _unpacked(ask_sources(cache, authorised.statement.manifest, unknown), manifest)
    if lost := [place for place in missing if place not in sources]:
        path = manifest.paths[lost[0]].path
        raise PisteError("bad-answer", f"The hub tells nothing of {path}, which is part of the release.")
    sizes = _file_sizes(manifest, sources, told, memory)
    rebuilding = _rebuilding(told, memory, manifest, sources, missing, daemon)
    whole = (place for place in missing if place not in rebuilding.places)
    return Plan(
        manifest,
        sources,
        missing,
        sum(offer.size for offer in rebuilding.offers)
        + sum(estimate(manifest, sources, place) for place in whole),
        sum(sizes.get(place, entry.nar_size) for place, entry in enumerate(manifest.paths)),
        token,
        sizes,
        rebuilding,
    )


def plan_plainly(plan: Plan, daemon: Daemon) -> Plan:
    """What is left of a plan that failed in the middle, without deltas."""
    missing = _missing(plan.manifest, daemon)
    if any(place not in plan.sources for place in missing):
        raise PisteError(
            "path-not-valid", "Paths that were there have been deleted meanwhile.", hint="Try again."
        )
    return msgspec.structs.replace(
        plan,
        missing=missing,
        bytes_to_fetch=sum(estimate(plan.manifest, plan.sources, place) for place in missing),
        rebuilding=Rebuilding(),
    )


def _rebuilding(
    told: Told,
    memory: Memory,
    manifest: Manifest,
    sources: Mapping[int, NarSource],
    missing: list[int],
    daemon: Daemon,
) -> Rebuilding:
    if told.answer is None or (digest := told.answer.manifest.base) is None:
        return Rebuilding()
    sizes = {place: estimate(manifest, sources, place) for place in missing}
    base = memory.manifest(digest)
    return choose(told.answer.deltas, digest, base, manifest, sizes, daemon, memory.speed)


def cache_credential(authorised: Authorised, token: str | None) -> Credential:
    """The cache that the closure is read from, and the token that reads exactly that."""
    return Credential(parse_address(authorised.resolution.cache_url), token)


def estimate(manifest: Manifest, sources: Mapping[int, NarSource], place: int) -> int:
    """How many bytes a NAR has on its way; that of the NAR itself where the hub does not know."""
    return sources[place].file_size or manifest.paths[place].nar_size


def _missing(manifest: Manifest, daemon: Daemon) -> list[int]:
    """Places of the paths that are not there; those that are stay while the daemon's connection lasts."""
    paths = [StorePath.from_base_name(entry.path) for entry in manifest.paths]
    while True:
        valid = daemon.query_valid_paths(paths)
        # What a kept path refers to is kept as well, so it is enough to keep those that no other one refers
        # to.
        below = {
            index
            for place, entry in enumerate(manifest.paths)
            for index in entry.references
            if index != place and paths[place] in valid
        }
        daemon.add_temp_roots(
            path for place, path in enumerate(paths) if path in valid and place not in below
        )
        # The garbage collector may have been between the question and the roots.
        if daemon.query_valid_paths(valid) == valid:
            return [place for place, path in enumerate(paths) if path not in valid]


def _manifest(told: Told, memory: Memory, authorised: Authorised) -> tuple[Manifest, dict[int, NarSource]]:
    """The closure, which has to be the one that the statement names; and what is told of its NARs."""
    digest, answer = authorised.statement.manifest, told.answer
    sources: dict[int, NarSource] = {}
    try:
        if answer is not None:
            base = answer.manifest.base
            held = memory.manifest(base) if base is not None else None
            bases = {base: held} if base is not None and held is not None else {}
            manifest = unpack_manifest(answer.manifest, digest, bases)
            sources = _unpacked([answer.sources], manifest)
        elif told.held is not None and (kept := memory.manifest(digest)) is not None:
            manifest = kept
        else:
            manifest, sources = _asked_apart(authorised)
    except UnknownFormatError as error:
        raise PisteError("manifest-unknown", f"The manifest can't be understood: {error}.") from error
    except ManifestError as error:
        raise PisteError("bad-manifest", f"The hub's manifest can't be used: {error}.") from error
    if f"{STORE_DIR}/{manifest.root.path}" != authorised.store_path or manifest.store_dir != STORE_DIR:
        raise PisteError("bad-manifest", "The manifest is that of another store path than the release's.")
    return manifest, sources


def _asked_apart(authorised: Authorised) -> tuple[Manifest, dict[int, NarSource]]:
    """From a hub that has no plans: the manifest as it lies, and where all of its NARs are."""
    digest = authorised.statement.manifest
    with HubConnection(cache_credential(authorised, authorised.resolution.token)) as cache:
        manifest = decode_manifest(cache.request("GET", ("manifest", digest.removeprefix("sha256:"))), digest)
        data = cache.request("GET", ("manifest", digest.removeprefix("sha256:"), "sources"))
    try:
        found = msgspec.json.decode(data, type=ManifestSources).sources
    except msgspec.DecodeError as error:
        raise PisteError("bad-answer", f"The hub's list of NARs can't be read: {error}.") from error
    if len(found) != len(manifest.paths):
        raise PisteError("bad-answer", "The hub tells of other paths than the release's manifest does.")
    return manifest, dict(enumerate(found))


def _unpacked(packed: Iterable[PackedSources], manifest: Manifest) -> dict[int, NarSource]:
    sources: dict[int, NarSource] = {}
    try:
        for each in packed:
            sources |= unpack_sources(each, manifest)
    except PlanError as error:
        raise PisteError("bad-answer", f"The hub's list of NARs can't be read: {error}.") from error
    return sources


def _file_sizes(
    manifest: Manifest, sources: Mapping[int, NarSource], told: Told, memory: Memory
) -> dict[int, int]:
    """By place; of what is here already, as it was told when it came."""
    known: dict[str, int] = {}
    name = (told.resolution.organization, told.resolution.project)
    for one in memory.releases(*name, None):
        if (older := memory.manifest(one.resolution.manifest)) is not None:
            known |= {older.paths[place].nar_hash: size for place, size in one.file_sizes.items()}
    sizes = {
        place: known[entry.nar_hash] for place, entry in enumerate(manifest.paths) if entry.nar_hash in known
    }
    return sizes | {place: one.file_size for place, one in sources.items() if one.file_size is not None}


def _store_paths(host: Host) -> bytes | None:
    """What is in the store, valid or not, as the hub is told of it; None where there is nothing to tell."""
    with contextlib.suppress(OSError):
        with os.scandir(host.store.real_path(STORE_DIR)) as found:
            parts = [each.name[:32] for each in found if each.name[32:33] == "-"]
        if 0 < len(parts) <= _TOLD:
            return pack_paths(parts)
    return None
