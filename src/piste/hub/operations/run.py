"""Runs one operation on the hub's data and closes everything again. Processes that serve may go on
meanwhile."""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from piste.hub import trail as trails
from piste.hub.app import build
from piste.hub.db.migrate import migrate, pending
from piste.hub.db.open import open_database
from piste.hub.services import Services
from piste.hub.settings import Settings
from piste.hub.trail import OPERATOR, Trail
from piste.lib import log
from piste.lib.clock import wall_clock

T = TypeVar("T")


def run_operation(settings: Settings, work: Callable[[Services], Awaitable[T]], *, name: str) -> T:
    """The result of the operation; `name` is its command, for the audit log."""
    os.umask(0o077)
    log.configure("warning")

    async def run() -> T:
        async with AsyncExitStack() as stack:
            services = await build(settings, stack)
            trail = Trail(action=name, request_id=secrets.token_hex(8), address="local", kind=OPERATOR)
            trails.begin(trail)
            return await work(services)

    return asyncio.run(run())


def run_migrations(settings: Settings, *, dry_run: bool) -> list[str]:
    """Names of the migrations that were run, or would be."""
    os.umask(0o077)

    async def run() -> list[str]:
        database = await open_database(settings, wall_clock, migrated=False)
        try:
            found = await (pending(database) if dry_run else migrate(database, wall_clock))
        finally:
            await database.close()
        return [f"{migration.number:04}_{migration.name}" for migration in found]

    return asyncio.run(run())
