"""Asks an organization's upstreams for paths that a release needs and nobody has pushed. What they vouch for
can be pinned.

Clients that push leave out what an upstream has, so this is the hub's to find out. It must never ask for the
same path again and again: what an upstream does not have is remembered for a minute, and so is one that does
not answer.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from piste.hub.cache import queries
from piste.hub.cache.pins import pinned_record
from piste.hub.cache.records import PathRecord
from piste.hub.db.base import Database
from piste.hub.egress.outbound import Egress, Visit
from piste.hub.egress.rules import EgressError, StatusError, parse_target

CONNECTIONS: Final = 16  # narinfos are small: what counts is round trips
BUDGET_SECONDS: Final = 10.0  # of one question; what was found stays, and the next question goes on
_REMEMBERED_SECONDS: Final = 60.0
_MAX_REMEMBERED: Final = 100_000
_NARINFO_LIMIT: Final = 256 * 1024


class Upstreams:
    """The upstreams of all organizations, as this process has asked them."""

    def __init__(self, database: Database, egress: Egress) -> None:
        self._database = database
        self._egress = egress
        self.seconds = BUDGET_SECONDS
        self._absent: dict[tuple[str, str], float] = {}  # address and path; "" is the upstream as a whole
        self._turns: Mapping[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def turn(self, organization: str) -> asyncio.Lock:
        """One question of an organization at a time: the others then find what it brought."""
        return self._turns[organization]

    async def key_names(self, organization: str) -> list[str]:
        """Of those upstreams that can be asked: what these keys have signed need not be pushed."""
        known = await queries.upstreams(self._database, organization)
        names = {key.partition(":")[0] for url, keys in known.items() if _can_be_asked(url) for key in keys}
        return sorted(names)

    @asynccontextmanager
    async def search(self, organization: str) -> AsyncIterator["Search"]:
        """A search of the organization's upstreams that ends after some time."""
        known = await queries.upstreams(self._database, organization)
        async with AsyncExitStack() as visits:
            yield Search(self, self._egress, visits, known, time.monotonic() + self.seconds)

    def is_absent(self, url: str, name: str = "") -> bool:
        return self._absent.get((url, name), 0.0) > time.monotonic()

    def remember_absent(self, url: str, name: str = "") -> None:
        if len(self._absent) >= _MAX_REMEMBERED:
            self._absent.clear()
        self._absent[url, name] = time.monotonic() + _REMEMBERED_SECONDS


class Search:
    """Connections that are kept from one level of a closure to the next."""

    def __init__(
        self,
        upstreams: Upstreams,
        egress: Egress,
        visits: AsyncExitStack,
        known: Mapping[str, Sequence[str]],
        deadline: float,
    ) -> None:
        self._upstreams = upstreams
        self._egress = egress
        self._visits = visits
        self._known = known
        self._deadline = deadline
        self._open: dict[str, Visit] = {}

    async def find(self, names: Sequence[str]) -> dict[str, PathRecord]:
        """What upstreams have of these paths, by base name."""
        found: dict[str, PathRecord] = {}
        for url, keys in self._known.items():
            wanted = [n for n in names if n not in found and not self._upstreams.is_absent(url, n)]
            if not wanted or self._upstreams.is_absent(url):
                continue
            try:
                async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                    await self._ask(url, keys, wanted, found)
            except TimeoutError:
                break  # what was found counts, and the next question goes on
            except EgressError:
                # Not to be reached is no error of whoever asks for a release.
                self._upstreams.remember_absent(url)
        return found

    async def _ask(
        self, url: str, keys: Sequence[str], names: Sequence[str], found: dict[str, PathRecord]
    ) -> None:
        if url not in self._open:
            way = self._egress.visit(url, connections=CONNECTIONS)
            self._open[url] = await self._visits.enter_async_context(way)
        visit, waiting = self._open[url], iter(names)

        async def work() -> None:
            # A worker takes one after another, so that no more is under way than there are connections.
            for name in waiting:
                record = await _narinfo(visit, url, keys, name)
                if record is None:
                    self._upstreams.remember_absent(url, name)
                else:
                    found[name] = record

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(CONNECTIONS, len(names))):
                    group.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group


async def _narinfo(visit: Visit, url: str, keys: Sequence[str], name: str) -> PathRecord | None:
    """None where it has none, or none that counts."""
    try:
        fetched = await visit.fetch(f"{url}/{name[:32]}.narinfo", limit=_NARINFO_LIMIT)
        return pinned_record(name, url, fetched.body.decode(), keys)
    except (StatusError, UnicodeDecodeError):
        return None


def _can_be_asked(url: str) -> bool:
    try:
        parse_target(url)
    except EgressError:
        return False
    return True
