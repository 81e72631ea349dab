"""Runs one operation on the hub's data and closes everything again. Processes that serve may go on
meanwhile."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from piste.hub.app import build
from piste.hub.services import Services
from piste.hub.settings import Settings
from piste.lib import log

T = TypeVar("T")


def run_operation(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    """The result of the operation."""
    os.umask(0o077)
    log.configure("warning")

    async def run() -> T:
        async with AsyncExitStack() as stack:
            return await work(await build(settings, stack))

    return asyncio.run(run())
