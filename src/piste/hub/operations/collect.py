"""Removes what nothing refers to: rows of NARs first, then objects without a row.

May run while the hub serves: what is young stays, since its rows may be about to come.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from piste.hub.operations import queries
from piste.hub.services import Services
from piste.lib.clock import DAY, SECOND

# How long deltas are kept: hosts that ran a release this long ago are few, and making them again is cheap.
DELTAS_LAST: Final = 30 * DAY

_BATCH: Final = 500


@dataclass
class Collected:
    """What was removed, or would be."""

    dry_run: bool
    objects: dict[str, int] = field(default_factory=lambda: dict.fromkeys(queries.KINDS, 0))
    bytes: int = 0


async def collect(services: Services, *, grace_seconds: int, dry_run: bool) -> Collected:
    """One collection. `grace_seconds` is how long something stays at least."""
    before = services.clock() - grace_seconds * SECOND
    result = Collected(dry_run)
    doomed = set(await queries.unused_nars(services.database, before))
    if not dry_run:
        async with services.database.transaction() as connection:
            await queries.remove_delta_pairs(connection, services.clock() - DELTAS_LAST, before)
        await _remove_rows(services, sorted(doomed), before)
        doomed = set()
    for kind in queries.KINDS:
        batch: list[str] = []
        async for key in services.objects.keys(f"{kind}/"):
            batch.append(key)
            if len(batch) == _BATCH:
                await _remove_objects(services, kind, batch, before, doomed, result)
                batch = []
        await _remove_objects(services, kind, batch, before, doomed, result)
    return result


def row_name(kind: str, key: str) -> str:
    """The name by which rows speak of an object."""
    stem = key.removeprefix(f"{kind}/").partition(".")[0]
    match kind:
        case "nar" | "listing" | "manifest":
            return f"sha256:{stem}"
        case "source" | "delta":
            return stem
        case _:
            return key


async def _remove_rows(services: Services, hashes: list[str], before: int) -> None:
    for start in range(0, len(hashes), _BATCH):
        listed = msgspec.json.encode(hashes[start : start + _BATCH]).decode()
        async with services.database.transaction() as connection:
            await queries.remove_unused_nars(connection, before, listed)


async def _remove_objects(
    services: Services, kind: str, keys: list[str], before: int, doomed: set[str], result: Collected
) -> None:
    names = {key: row_name(kind, key) for key in keys}
    listed = msgspec.json.encode(sorted(set(names.values()))).decode()
    used = await queries.used(services.database, kind, listed) - doomed
    moment = before / SECOND
    for key, name in names.items():
        if name in used:
            continue
        size = await services.objects.size(key) or 0
        if result.dry_run:
            removed = await services.objects.is_older(key, moment)
        else:
            removed = await services.objects.delete_if_older(key, moment)
        if removed:
            result.objects[kind] += 1
            result.bytes += size
