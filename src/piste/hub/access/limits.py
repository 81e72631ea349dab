"""How often somebody may ask within a minute: with wrong credentials, who one is, what a release resolves to.

A wrong credential counts for the address that it came from, everything else for the token that asked, so
nobody can lock out anybody else: whoever sends a good token is not held up by what others send. Each process
counts by itself, and tells the others once somebody has used an eighth of the limit; so what is far from it
costs no write, and what N processes let through is at most the limit and N eighths.
"""

import asyncio
import ipaddress
from collections import defaultdict
from enum import StrEnum
from typing import Final

import structlog

from piste.hub.access import limit_queries
from piste.hub.access.records import Actor, Permission
from piste.hub.db.base import Database
from piste.hub.errors import HubError
from piste.hub.settings import RateLimits
from piste.lib.clock import MINUTE, SECOND, Clock

WINDOW: Final = MINUTE
SHARE_SECONDS: Final = 0.5
_SHARED_FROM: Final = 8
# Subjects of one window; those that come later are counted together.
_MAX_SUBJECTS: Final = 100_000
_IPV6_PREFIX: Final = 64  # what one subscriber has

_log = structlog.get_logger("piste.hub.access")


class Limited(StrEnum):
    FAILED_CREDENTIALS = "failed credentials"
    SIGN_IN = "sign-in"
    RESOLUTION = "resolution"


_BY_PERMISSION: Final = {
    Permission.STATUS: Limited.SIGN_IN,
    Permission.IDENTITY_EXCHANGE: Limited.SIGN_IN,
    Permission.OUTPUT_RESOLVE: Limited.RESOLUTION,
}


class Limits:
    """The counts of this minute, and what other processes told of theirs."""

    def __init__(self, database: Database, clock: Clock, rates: RateLimits) -> None:
        self._database = database
        self._clock = clock
        self._rates = {
            Limited.FAILED_CREDENTIALS: rates.failed_credentials,
            Limited.SIGN_IN: rates.sign_ins,
            Limited.RESOLUTION: rates.resolutions,
        }
        self._started = 0
        self._own: dict[str, int] = defaultdict(int)
        self._told: dict[str, int] = {}
        self._others: dict[str, int] = {}

    def check(self, permission: Permission, actor: Actor, address: str) -> None:
        """Count a request that asks for something limited; HubError 429 where it is too many."""
        what = _BY_PERMISSION.get(permission)
        if what is not None:
            parent = actor.closure.parent if actor.closure is not None else None
            identity = actor.trusted.use if actor.trusted is not None else None
            self.count(what, actor.token or parent or identity or subscriber(address))

    def count_failure(self, address: str) -> None:
        """Count a credential that was refused; HubError 429 in its place where it is too many."""
        self.count(Limited.FAILED_CREDENTIALS, subscriber(address))

    def count(self, what: Limited, who: str) -> None:
        now = self._clock()
        started = now - now % WINDOW
        if started != self._started:
            self._begin(started)
        subject = f"{what}:{who}"
        if len(self._own) >= _MAX_SUBJECTS and subject not in self._own:
            subject = f"{what}:-"
        self._own[subject] += 1
        allowed = self._rates[what]
        asked = self._own[subject] + self._others.get(subject, 0)
        if asked > allowed:
            wait = -(-(started + WINDOW - now) // SECOND)
            raise HubError(
                "too-many-requests",
                f"Too many requests: {what}, more than {allowed} in a minute.",
                hint=f"Try again in {wait} seconds.",
                # Told once a minute: the log must not grow with what is refused.
                reason=f"more than {allowed} in a minute: {what}" if asked == allowed + 1 else None,
                retry_after=wait,
            )

    async def share(self) -> None:
        """Tell the others what came near its limit, and learn what they count."""
        own, told, started = self._own, self._told, self._started
        new = [
            (subject, count - told.get(subject, 0))
            for subject, count in own.items()
            if count != told.get(subject, 0) and count >= self._told_from(subject)
        ]
        if new:
            async with self._database.transaction() as connection:
                await limit_queries.add(connection, started, new)
            told.update({subject: told.get(subject, 0) + more for subject, more in new})
        if told:
            total = await limit_queries.totals(self._database, started, list(told))
            if own is self._own:
                self._others = {subject: total[subject] - told[subject] for subject in total}

    async def watch(self) -> None:
        """Runs as long as the process serves."""
        while True:
            await asyncio.sleep(SHARE_SECONDS)
            try:
                await self.share()
            except Exception as error:
                # Each process goes on with its own counts.
                _log.warning("limits-not-shared", error=type(error).__name__)

    def _told_from(self, subject: str) -> int:
        return max(1, self._rates[Limited(subject.partition(":")[0])] // _SHARED_FROM)

    def _begin(self, started: int) -> None:
        self._started, self._own, self._told, self._others = started, defaultdict(int), {}, {}


def subscriber(address: str) -> str:
    """Whom an address stands for: with IPv6 a whole network, since everybody has one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)
