"""Asks an organization's upstreams for paths that a release needs and nobody has pushed. What they vouch for
can be pinned.

Clients that push leave out what an upstream has, so this is the hub's to find out. It must never ask for the
same path again and again: what an upstream does not have is remembered for a minute.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from piste.hub.cache import queries
from piste.hub.cache.pins import pinned_record
from piste.hub.cache.records import PathRecord
from piste.hub.db.base import Database
from piste.hub.egress.outbound import Egress, Visit
from piste.hub.egress.rules import EgressError, parse_target

CONNECTIONS: Final = 16  # narinfos are small: what counts is round trips
BUDGET_SECONDS: Final = 10.0  # of one question; what was found stays, and the next question goes on
_ABSENT_SECONDS: Final = 60.0
_MAX_ABSENT: Final = 100_000
_NARINFO_LIMIT: Final = 256 * 1024


class Upstreams:
    """The upstreams of all organizations, as this process has asked them."""

    def __init__(self, database: Database, egress: Egress) -> None:
        self._database = database
        self._egress = egress
        self._absent: dict[tuple[str, str], float] = {}
        self._turns: Mapping[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def key_names(self, organization: str) -> list[str]:
        """Of those upstreams that can be asked: what these keys have signed need not be pushed."""
        known = await queries.upstreams(self._database, organization)
        names = {key.partition(":")[0] for url, keys in known.items() if _can_be_asked(url) for key in keys}
        return sorted(names)

    def turn(self, organization: str) -> asyncio.Lock:
        """One question of an organization at a time: the others then find what it brought."""
        return self._turns[organization]

    async def find(self, organization: str, names: Sequence[str], deadline: float) -> dict[str, PathRecord]:
        """What upstreams have of these paths, by base name, until the deadline (monotonic)."""
        found: dict[str, PathRecord] = {}
        for url, keys in (await queries.upstreams(self._database, organization)).items():
            wanted = [name for name in names if name not in found and not self._is_absent(url, name)]
            if wanted:
                found.update(await self._ask(url, keys, wanted, deadline))
        return found

    async def _ask(
        self, url: str, keys: Sequence[str], names: Sequence[str], deadline: float
    ) -> dict[str, PathRecord]:
        found: dict[str, PathRecord] = {}
        waiting = iter(names)

        async def work(visit: Visit) -> None:
            # A worker takes one after another, so that no more is under way than there are connections.
            for name in waiting:
                record = await self._narinfo(visit, url, keys, name)
                if record is None:
                    self._remember_absent(url, name)
                else:
                    found[name] = record

        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                async with self._egress.visit(url, connections=CONNECTIONS) as visit:
                    await asyncio.gather(*(work(visit) for _ in range(min(CONNECTIONS, len(names)))))
        except (EgressError, TimeoutError):
            # Not there, not to be asked, or too slow: none of it is an error of whoever asks for a release.
            if not found:
                for name in names:
                    self._remember_absent(url, name)
        return found

    async def _narinfo(self, visit: Visit, url: str, keys: Sequence[str], name: str) -> PathRecord | None:
        try:
            fetched = await visit.fetch(f"{url}/{name[:32]}.narinfo", limit=_NARINFO_LIMIT)
            return pinned_record(name, url, fetched.body.decode(), keys)
        except (EgressError, UnicodeDecodeError):
            return None

    def _is_absent(self, url: str, name: str) -> bool:
        return self._absent.get((url, name), 0.0) > time.monotonic()

    def _remember_absent(self, url: str, name: str) -> None:
        if len(self._absent) >= _MAX_ABSENT:
            self._absent.clear()
        self._absent[url, name] = time.monotonic() + _ABSENT_SECONDS


def _can_be_asked(url: str) -> bool:
    try:
        parse_target(url)
    except EgressError:
        return False
    return True
