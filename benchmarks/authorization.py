"""How much CPU it costs to decide whether a narinfo may be read, for a credential that was seen before.

    python -m benchmarks.authorization

All that a request does for authorization and would not do without: the credential becomes an actor, the
limits and the table are asked, and whether the path may be read through the project. The budget is 25 µs.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import uvloop

from piste.hub.access import queries, token_queries
from piste.hub.access.records import Kind, Permission, Project, Role
from piste.hub.access.token_text import hash_token, make_token
from piste.hub.app import build
from piste.hub.registry.outputs import manifest_key
from piste.hub.services import Services
from piste.hub.settings import make_settings
from piste.hub.trail import Trail
from piste.lib.clock import DAY
from piste.lib.identifiers import new_id
from piste.nix import base32
from piste.nix.hashes import sha256_of
from piste.wire.manifest import FORMAT, Manifest, ManifestPath, encode_manifest, manifest_digest
from tests.hub.postgres import running_postgres

BUDGET_US: Final = 25.0
PATHS: Final = 1000
# Requests with nothing between them; then the process reads revocations, as it does three times a second.
BATCH: Final = 2000
BATCHES: Final = 15


async def fill(services: Services) -> Project:
    """A private project of an organization with one member."""
    now = services.clock()
    async with services.database.transaction() as connection:
        await connection.run("INSERT INTO organization (id, name, created_at) VALUES ('o', 'acme', $1)", now)
        await queries.add_local_person(connection, "p", "mona", now, superuser=False)
        await connection.run(
            "INSERT INTO member (organization, person, role, since) VALUES ('o', 'p', $1, $2)",
            Role.MEMBER,
            now,
        )
        await connection.run(
            """INSERT INTO project (id, organization, name, visibility, sequence, created_at)
               VALUES ($1, 'o', 'web', 'private', 0, $2)""",
            new_id(now),
            now,
        )
    found = await queries.project_by_name(services.database, "acme", "web")
    if found is None:
        raise SystemExit("the project is not there")
    return found


async def token(services: Services, kind: Kind) -> str:
    text, now = make_token(kind), services.clock()
    row = token_queries.TokenRow(
        id=new_id(now),
        kind=kind,
        hash=hash_token(text),
        organization="o",
        person="p" if kind is Kind.USER else None,
        description="benchmark",
        created_by=None,
        created_at=now,
        expires_at=now + DAY,
    )
    async with services.database.transaction() as connection:
        await token_queries.add_token(connection, row)
    return text


async def closure_token(services: Services, project: Project, parent: str) -> tuple[str, list[str]]:
    """A token for a closure of many paths, and their hash parts."""
    names = [base32.encode(sha256_of(str(number).encode()).digest[:20]) for number in range(PATHS)]
    paths = [ManifestPath(f"{name}-path", "sha256:" + "0" * 52, 1, []) for name in names]
    data = encode_manifest(Manifest(FORMAT, "/nix/store", paths))
    digest = manifest_digest(data)
    await services.objects.put(manifest_key(digest), data)
    actor = await services.authenticator.actor_of(parent)
    text, _ = await services.closures.issue(actor, project.id, digest)
    return text, names


async def authorize(
    services: Services, project: Project, headers: Sequence[tuple[bytes, bytes]], part: str, *, remember: bool
) -> bool:
    """What dispatch and the handler of narinfos do, in their order."""
    trail = Trail(action="GET /cache/{org}/{project}/{hash}.narinfo", request_id="r", address="192.0.2.1")
    actor = await services.authenticator.authenticate(headers, address=trail.address, remember=remember)
    trail.by(actor)
    services.limits.check(Permission.CACHE_READ, actor, trail.address)
    trail.to(Permission.CACHE_READ, project)
    services.guard.require(actor, Permission.CACHE_READ, project)
    return await services.guard.may_read_path(actor, project, part)


async def measure_one(
    services: Services, project: Project, text: str, parts: Sequence[str], *, remember: bool
) -> float:
    """Median CPU time of one authorization in microseconds, over batches."""
    headers = [(b"host", b"hub.example.org"), (b"authorization", f"Bearer {text}".encode())]
    times = []
    for _ in range(BATCHES if remember else 3):
        await services.revocations.refresh()
        count = BATCH if remember else BATCH // 4
        began = time.process_time_ns()
        for number in range(count):
            if not await authorize(services, project, headers, parts[number % len(parts)], remember=remember):
                raise SystemExit("refused")
        times.append((time.process_time_ns() - began) / 1000 / count)
    return statistics.median(times)


async def measure(database_url: str | None, folder: Path) -> float:
    """Print a table; the slowest in microseconds."""
    settings = make_settings(folder, listen="127.0.0.1:1", database=database_url)
    slowest = 0.0
    async with AsyncExitStack() as stack:
        services = await build(settings, stack)
        project = await fill(services)
        user, device = await token(services, Kind.USER), await token(services, Kind.DEVICE)
        closure, parts = await closure_token(services, project, device)
        for kind, text in (("user", user), ("device", device), ("closure", closure)):
            anew = await measure_one(services, project, text, parts, remember=False)
            seen = await measure_one(services, project, text, parts, remember=True)
            slowest = max(slowest, seen)
            print(f"{services.database.engine:11} {kind:8} seen before {seen:6.1f} us, looked up {anew:6.1f}")
    return slowest


def run(database_url: str | None, folder: Path) -> float:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure(database_url, folder))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_postgres() as server:
        slowest = run(None, Path(folder) / "sqlite")
        slowest = max(slowest, run(server.create(), Path(folder) / "postgresql"))
    print(f"slowest: {slowest:.1f} us of {BUDGET_US} us")
    sys.exit(0 if slowest < BUDGET_US else 1)


if __name__ == "__main__":
    main()
