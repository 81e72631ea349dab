"""Pairs of manifests whose deltas are to be made. Bounded, and nothing is lost with it: who asks again, asks
again."""

import asyncio
from typing import Final

from piste.hub.plan.records import Asked

_LIMIT: Final = 100


class DeltaQueue:
    """One of these a process."""

    def __init__(self) -> None:
        self._waiting: dict[Asked, None] = {}
        self._there = asyncio.Event()

    def ask(self, asked: Asked) -> None:
        """Have a pair's deltas made, sooner or later; or not, where very many wait."""
        if len(self._waiting) < _LIMIT:
            self._waiting[asked] = None
            self._there.set()

    async def next(self) -> Asked:
        """The pair that waits longest."""
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        asked = next(iter(self._waiting))
        del self._waiting[asked]
        return asked
