"""Checks that everything that rows promise is there: objects with their sizes, closures with all their paths.

Changes nothing.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from piste.hub.audit.reading import verify
from piste.hub.operations import queries
from piste.hub.services import Services
from piste.nix.hashes import Hash
from piste.wire.manifest import ManifestError, decode_manifest

_BATCH: Final = 1000


@dataclass(frozen=True)
class Problem:
    """Something that is not as the rows say."""

    name: str
    problem: str


@dataclass
class Checked:
    nars: int = 0
    manifests: int = 0
    sources: int = 0
    audit_entries: int = 0
    problems: list[Problem] = field(default_factory=list)


async def check(services: Services, *, contents: bool) -> Checked:
    """Check everything. `contents` also reads each NAR's file and compares its hash."""
    result = Checked()
    await _check_nars(services, result, contents=contents)
    for row in await queries.paths_without_nar(services.database):
        result.problems.append(Problem(f"{row['hash_part']}-{row['name']}", "its NAR has no row"))
    await _check_manifests(services, result)
    for row in await queries.sources(services.database):
        result.sources += 1
        if await services.objects.size(f"source/{row['source']}.tar.gz") is None:
            name = f"{row['organization']}/{row['project']}/{row['version']}"
            result.problems.append(Problem(name, "its source is missing"))
    for row in await queries.logs(services.database):
        if await services.objects.size(row["object"]) is None:
            result.problems.append(Problem(row["object"], "the build log is missing"))
    result.audit_entries, broken = await verify(services.database)
    for each in broken:
        name = f"audit log of {each.chain}" if each.chain else "audit log of the hub"
        result.problems.append(Problem(name, each.problem))
    return result


async def _check_nars(services: Services, result: Checked, *, contents: bool) -> None:
    async for nar_hash, file_hash, file_size in _nars(services):
        result.nars += 1
        key = f"nar/{nar_hash.removeprefix('sha256:')}.nar.zst"
        size = await services.objects.size(key)
        if size is None:
            result.problems.append(Problem(key, "the NAR is missing"))
        elif size != file_size:
            result.problems.append(Problem(key, f"the NAR's file has {size} bytes instead of {file_size}"))
        elif contents and await _digest(services, key) != Hash.parse(file_hash).digest:
            result.problems.append(Problem(key, "the NAR's file has another hash"))


async def _nars(services: Services) -> AsyncIterator[tuple[str, str, int]]:
    last = ""
    while rows := await queries.nars_after(services.database, last, _BATCH):
        for row in rows:
            yield row["nar_hash"], row["file_hash"], row["file_size"]
        last = rows[-1]["nar_hash"]


async def _digest(services: Services, key: str) -> bytes:
    digest = hashlib.sha256()
    async for piece in services.objects.stream(key):
        await services.workers.run(digest.update, piece)
    return digest.digest()


async def _check_manifests(services: Services, result: Checked) -> None:
    for row in await queries.manifests(services.database):
        result.manifests += 1
        problem = await _manifest_problem(services, row["project"], row["digest"])
        if problem is not None:
            result.problems.append(Problem(f"manifest of {row['root']}", problem))


async def _manifest_problem(services: Services, project: str, digest: str) -> str | None:
    data = await services.objects.read(f"manifest/{digest.removeprefix('sha256:')}.json")
    if data is None:
        return "the manifest is missing"
    try:
        paths = decode_manifest(data, digest).paths
    except ManifestError as error:
        return str(error)
    wanted = {entry.path[:32]: entry.nar_hash for entry in paths}
    listed = msgspec.json.encode(sorted(wanted)).decode()
    there = await queries.nar_hashes(services.database, project, listed)
    differing = [part for part, nar_hash in wanted.items() if there.get(part) != nar_hash]
    if differing:
        return (
            f"{len(differing)} of its {len(wanted)} paths are not the project's, the first is {differing[0]}"
        )
    return None
