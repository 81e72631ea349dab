"""Making deltas: one at a time, in a thread that gives way to all others, and once for all who may have it.

Every process of a hub makes those that are asked for here, and those against the release before of what is
published; a claim in the database keeps two from making the same. Nobody waits for a delta: until it is
there, hosts are sent the full NARs.
"""

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import structlog

from piste.hub.cache import queries as cache_queries
from piste.hub.cache.keep import nar_key
from piste.hub.plan import queries, rules
from piste.hub.plan.compress import Nar, write_delta
from piste.hub.plan.manifests import read_manifest
from piste.hub.plan.records import Asked, DeltaRow, HeldNar, Made, PairRow, delta_key, delta_object
from piste.hub.services import Services
from piste.hub.storage.base import LocalFile
from piste.lib.clock import MINUTE, SECOND
from piste.lib.decompress import DecompressError
from piste.lib.delta import DeltaError
from piste.lib.identifiers import new_id
from piste.lib.memory import give_back
from piste.wire.deltas import renames
from piste.wire.manifest import Manifest
from piste.wire.runs import runs_of

# How long a process that has claimed a pair may say nothing before another one goes on.
STALE: Final = 10 * MINUTE
_LOOK_SECONDS: Final = 1.0
# A release's id is older than its row: it is made before the paths are signed.
_OVERLAP: Final = 5 * MINUTE
_BATCH: Final = 50
_LOOKED_UP: Final = 500  # paths
_NICE: Final = 10

_log = structlog.get_logger("piste.hub.deltas")


async def run(services: Services) -> None:
    """Make what is asked for, until the task is cancelled."""
    stop = threading.Event()
    thread = ThreadPoolExecutor(1, thread_name_prefix="deltas", initializer=_give_way)
    try:
        while True:
            asked = await services.deltas.next()
            try:
                await _Maker(services, asked, thread, stop).make()
            except Exception as error:
                # A delta only saves something; the next pair must not wait for the reason.
                _log.warning("delta-failed", error=type(error).__name__, target=asked.target)
    finally:
        stop.set()
        thread.shutdown(wait=True, cancel_futures=True)


async def watch(services: Services) -> None:
    """Have deltas made of what is published, against the release before."""
    seen: dict[str, None] = {}
    since = services.clock()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            found = await queries.releases_since(
                services.database, _first_id(max(since, services.clock() - _OVERLAP)), _BATCH
            )
            for row in found:
                if row["id"] not in seen:
                    seen[row["id"]] = None
                    await _ask_for(services, row["id"], row["project"], row["sequence"])
            while len(seen) > 10 * _BATCH:
                del seen[next(iter(seen))]
        except Exception as error:
            _log.warning("delta-watch-failed", error=type(error).__name__)


async def _ask_for(services: Services, release: str, project: str, sequence: int) -> None:
    for output in await queries.manifests_of_release(services.database, release):
        base = await queries.manifest_before(services.database, project, sequence, output["attribute"])
        if base is not None and base != output["manifest"]:
            services.deltas.ask(Asked(project, base, output["manifest"]))


class _Maker:
    """The deltas of one pair."""

    def __init__(
        self, services: Services, asked: Asked, thread: ThreadPoolExecutor, stop: threading.Event
    ) -> None:
        self._services = services
        self._asked = asked
        self._thread = thread
        self._stop = stop

    async def make(self) -> None:
        services, asked = self._services, self._asked
        now = services.clock()
        known = await queries.pair(services.database, asked)
        if known is not None and known.claimed_at >= now - STALE:
            return
        if known is None and await queries.base_count(services.database, asked) >= rules.MOST_BASES:
            return
        manifest = await read_manifest(services, asked.target)
        base = await read_manifest(services, asked.base)
        if manifest is None or base is None:
            return
        successors = await services.workers.run(rules.successors, manifest, base)
        held = await self._held(manifest, base, successors)
        rows: list[DeltaRow] = []
        if known is None:
            rows = await services.workers.run(_rows, asked.project, manifest, base, successors, held)
        pair = PairRow(
            places=_json(runs_of(successors)), bases=_json(runs_of(successors.values())), claimed_at=now
        )
        async with services.database.transaction() as connection:
            if not await queries.claim(connection, asked, pair, now - STALE):
                return
            await queries.add_deltas(connection, asked, rows)
        started = time.monotonic()
        for row in await queries.deltas(services.database, asked):
            if row.size is None:
                await self._make_one(manifest, base, successors, held, row)
        _log.info(
            "deltas-made", target=asked.target, base=asked.base, seconds=round(time.monotonic() - started, 2)
        )

    async def _held(
        self, manifest: Manifest, base: Manifest, successors: dict[int, int]
    ) -> dict[str, HeldNar]:
        """By base name: of old and new paths those whose NAR the hub holds, and holds for this project."""
        names = [manifest.paths[place].path for place in successors]
        names += [base.paths[place].path for place in successors.values()]
        parts = [name[:32] for name in dict.fromkeys(names)]
        held: dict[str, HeldNar] = {}
        # Some at a time, and of each only what is needed: all rows of a large closure take as much memory as
        # everything else that is done here.
        for start in range(0, len(parts), _LOOKED_UP):
            some = parts[start : start + _LOOKED_UP]
            for row in await cache_queries.paths_of_project(
                self._services.database, self._asked.project, some
            ):
                if row.upstream is None and row.file_size is not None:
                    held[row.base_name] = HeldNar(row.nar_hash, row.nar_size, row.file_size)
        return held

    async def _make_one(
        self,
        manifest: Manifest,
        base: Manifest,
        successors: dict[int, int],
        held: dict[str, HeldNar],
        row: DeltaRow,
    ) -> None:
        services = self._services
        size = await queries.size_of(services.database, self._asked.project, row.object)
        if size is None or (size and await services.objects.size(delta_key(row.object)) is None):
            size = await self._compress(manifest, base, successors, held, row)
        async with services.database.transaction() as connection:
            await queries.made(connection, self._asked, row.number, size, services.clock())

    async def _compress(
        self,
        manifest: Manifest,
        base: Manifest,
        successors: dict[int, int],
        held: dict[str, HeldNar],
        row: DeltaRow,
    ) -> int:
        """The size of the delta, which is kept then; 0 if it is not worth having."""
        services = self._services
        places = msgspec.json.decode(row.places, type=list[int])
        bases = msgspec.json.decode(row.bases, type=list[int])
        try:
            async with contextlib.AsyncExitStack() as files:
                out = _spooled(services, files, ".delta")
                changes = await services.workers.run(
                    lambda: [
                        renames(manifest, base, successors, place, at) if row.renamed else []
                        for place, at in zip(places, bases, strict=True)
                    ]
                )
                old = [
                    await self._nar(base.paths[at].path, held, files, change)
                    for at, change in zip(bases, changes, strict=True)
                ]
                new = [await self._nar(manifest.paths[place].path, held, files, []) for place in places]
                size = await self._in_thread(out, old, new, whole=row.renamed)
                if size >= rules.WORTH * row.file_size:
                    return 0
                await services.objects.put_file(delta_key(row.object), out)
                return size
        except (OSError, KeyError, DeltaError, DecompressError) as error:
            # A NAR is gone, or is not what it was. It is no use to try again.
            _log.warning("delta-failed", error=type(error).__name__, target=self._asked.target)
            return 0

    async def _in_thread(self, out: Path, old: Sequence[Nar], new: Sequence[Nar], *, whole: bool) -> int:
        def work() -> int:
            # Else what a publication of ten thousand paths left would be added to what this takes.
            give_back()
            try:
                return write_delta(out, old, new, whole=whole, stop=self._stop)
            finally:
                give_back()

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _nar(
        self,
        base_name: str,
        held: dict[str, HeldNar],
        files: contextlib.AsyncExitStack,
        changes: list[tuple[bytes, bytes]],
    ) -> Nar:
        """The NAR as a file of this machine, for as long as the stack is open."""
        await asyncio.sleep(0)  # there may be a thousand, and nothing below has to wait
        row = held[base_name]
        objects, key = self._services.objects, nar_key(row.nar_hash)
        location = await objects.locate(key)
        if isinstance(location, LocalFile):
            return Nar(location.path, row.nar_size, changes)
        copy = _spooled(self._services, files, ".nar.zst")
        with copy.open("wb") as file:
            async for piece in objects.stream(key):
                await self._services.workers.run(file.write, piece)
        return Nar(copy, row.nar_size, changes)


def _rows(
    project: str,
    manifest: Manifest,
    base: Manifest,
    successors: dict[int, int],
    held: dict[str, HeldNar],
) -> list[DeltaRow]:
    candidates = []
    for place, at in successors.items():
        new, old = held.get(manifest.paths[place].path), held.get(base.paths[at].path)
        if new is not None and old is not None:
            candidates.append(rules.Candidate(place, at, new.nar_size, old.nar_size, new.file_size))
    rows = []
    for number, group in enumerate(rules.groups(candidates)):
        nars: list[Made] = [
            (
                base.paths[at].nar_hash,
                manifest.paths[place].nar_hash,
                renames(manifest, base, successors, place, at) if group.renamed else [],
            )
            for place, at in zip(group.places, group.bases, strict=True)
        ]
        rows.append(
            DeltaRow(
                number=number,
                places=_json(group.places),
                bases=_json(group.bases),
                renamed=group.renamed,
                file_size=group.file_size,
                object=delta_object(project, nars),
            )
        )
    return rows


def _spooled(services: Services, files: contextlib.AsyncExitStack, suffix: str) -> Path:
    """A file of the spool that goes with the stack."""
    descriptor, name = tempfile.mkstemp(dir=services.objects.spool, suffix=suffix)
    os.close(descriptor)
    files.callback(Path(name).unlink, missing_ok=True)
    return Path(name)


def _json(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(numbers).decode()


def _first_id(moment: int) -> str:
    """Below all ids that are made from this moment on."""
    return new_id(moment - moment % SECOND)[:13]


def _give_way() -> None:
    """In this thread alone, as Linux has it."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
