"""How long it takes to find the release that a requirement means, among 10,000 of a project, on both engines.

    python -m benchmarks.resolution

Compared with loading all versions and parsing them. The budget is 5 ms, also for the slowest requirement.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from piste.hub.app import build
from piste.hub.db.base import Database
from piste.hub.registry.choosing import highest
from piste.hub.services import Services
from piste.hub.settings import make_settings
from piste.lib.identifiers import new_id
from piste.semver.pick import best
from piste.semver.requirement import Requirement
from piste.semver.version import Version
from tests.hub.postgres import running_postgres

RELEASES: Final = 10_000
ROUNDS: Final = 50
BUDGET_MS: Final = 5.0
REQUIREMENTS: Final = (
    "*",
    "0.1",
    "=0.1.175",
    "~0.2",
    ">=0.1, <0.3",
    "0.4",
    "=0.1.175-rc.1",
    ">=0.1.1-rc, <9",
)


def versions() -> list[Version]:
    """Five lines of 1,900 releases each, and 500 pre-releases."""
    made = [Version(0, minor, patch) for minor in range(5) for patch in range(1900)]
    return made + [Version(0, 1, patch, "rc.1") for patch in range(RELEASES - len(made))]


async def fill(services: Services) -> str:
    """One project with all releases; its id."""
    project = new_id(services.clock())
    now = services.clock()
    async with services.database.transaction() as connection:
        await connection.run(
            "INSERT INTO organization (id, name, created_at) VALUES ($1, $2, $3)", "o", "acme", now
        )
        await connection.run(
            """INSERT INTO project (id, organization, name, visibility, sequence, created_at)
               VALUES ($1, 'o', 'web', 'public', 0, $2)""",
            project,
            now,
        )
        await connection.many(
            """INSERT INTO release (id, project, version, sort, sequence, pre, rolling, content, source,
                   source_size, labels, published_at)
               VALUES ($1, $2, $3, $4, $5, $6, FALSE, '', '', 0, '[]', $7)""",
            [
                (f"r{number}", project, str(version), version.sort_key(), number, version.is_prerelease, now)
                for number, version in enumerate(versions())
            ],
        )
    return project


async def load_and_parse(database: Database, project: str, requirement: Requirement) -> str | None:
    """What the look-up replaces."""
    rows = await database.all("SELECT version FROM release WHERE project = $1 AND yanked_at IS NULL", project)
    found = best(requirement, (Version.parse(row["version"]) for row in rows))
    return None if found is None else str(found)


async def median_ms(work: Callable[[], Awaitable[object]], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        await work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


async def measure(database_url: str | None, folder: Path) -> float:
    """Print a table; the slowest median in ms."""
    settings = make_settings(folder, listen="127.0.0.1:1", database=database_url)
    slowest = 0.0
    async with AsyncExitStack() as stack:
        services = await build(settings, stack)
        project = await fill(services)
        database = services.database
        for text in REQUIREMENTS:
            requirement = Requirement.parse(text)
            found = await highest(database, project, requirement)
            expected = await load_and_parse(database, project, requirement)
            if (None if found is None else found.version) != expected:
                raise SystemExit(f"{text}: {found} instead of {expected}")

            def resolve(requirement: Requirement = requirement) -> Awaitable[object]:
                return highest(database, project, requirement)

            def compare(requirement: Requirement = requirement) -> Awaitable[object]:
                return load_and_parse(database, project, requirement)

            fast, slow = await median_ms(resolve, ROUNDS), await median_ms(compare, 3)
            slowest = max(slowest, fast)
            ratio = f"loading all {slow:7.1f} ms   {slow / fast:6.0f}x"
            print(f"{database.engine:11} {text:16} {fast:8.3f} ms   {ratio}")
    return slowest


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_postgres() as server:
        slowest = asyncio.run(measure(None, Path(folder) / "sqlite"))
        slowest = max(slowest, asyncio.run(measure(server.create(), Path(folder) / "postgresql")))
    print(f"slowest: {slowest:.3f} ms of {BUDGET_MS} ms")
    sys.exit(0 if slowest < BUDGET_MS else 1)


if __name__ == "__main__":
    main()
