"""What ended before its hour. Closure tokens are checked without the database, so each process keeps the
revocations of the last hour in memory and reads the new ones several times a second.

A revocation takes effect everywhere within a second: a process whose last look is older than that asks the
database.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from piste.hub.access import queries
from piste.hub.access.closure_token import LIFETIME_SECONDS
from piste.hub.access.records import Closure
from piste.hub.db.base import Connection, Database, Row
from piste.lib.clock import SECOND, Clock

REFRESH_SECONDS: Final = 0.3
STALE_SECONDS: Final = 0.9
# On PostgreSQL a number may become visible after a higher one, by as long as its transaction takes, and one
# transaction may add thousands: what came after the highest of half a minute ago is read again each time.
_SETTLE_SECONDS: Final = 30.0
# Clocks of two processes differ; a token made within this time after a revocation counts as made before.
_SKEW: Final = 5 * SECOND

_log = structlog.get_logger("piste.hub.access")


def token_subject(token: str) -> str:
    return f"token:{token}"


def manifest_subject(project: str, manifest: str) -> str:
    """Of one project: the closure of another's release may be the same, and is not theirs to end."""
    return f"release:{project}:{manifest}"


def person_subject(person: str) -> str:
    """What a person may was changed. Ends nothing: what is remembered of the person's tokens is looked up
    anew."""
    return f"person:{person}"


def share_subject(token: str, project: str) -> str:
    """The closures that one token was given of one project."""
    return f"share:{token}:{project}"


def key_subject(key_id: int) -> str:
    """A key of closure tokens, and all that was made with it."""
    return f"key:{key_id}"


def rule_subject(rule: str) -> str:
    """A rule of trust, and what identities were given by it."""
    return f"rule:{rule}"


def project_subject(project: str) -> str:
    return f"project:{project}"


def subjects_of_closure(closure: Closure) -> list[str]:
    """Whatever ends a closure token before its hour."""
    found = [
        manifest_subject(closure.project, closure.manifest),
        project_subject(closure.project),
        key_subject(closure.key_id),
    ]
    if closure.parent:
        found += [token_subject(closure.parent), share_subject(closure.parent, closure.project)]
    return found


class Revocations:
    """The revocations that this process knows."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._moments: dict[str, int] = {}
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])  # when, highest number
        self._refreshed = -STALE_SECONDS

    async def add_token(self, connection: Connection, token: str) -> None:
        """End the closure tokens that were made for a token (id), inside the transaction of the caller."""
        await queries.add_revocation(connection, token_subject(token), self._clock())

    async def add_manifest(self, connection: Connection, project: str, manifest: str) -> None:
        """End a project's closure tokens of a manifest (`sha256:<hex>`) that exist now; later ones are not
        touched."""
        await queries.add_revocation(connection, manifest_subject(project, manifest), self._clock())

    async def add_project(self, connection: Connection, project: str) -> None:
        """End the closure tokens of a project (id) that exist now: it was deleted, or is not open to all any
        more."""
        await queries.add_revocation(connection, project_subject(project), self._clock())

    async def add_person(self, connection: Connection, person: str) -> None:
        """What a person (id) may is another thing from now on."""
        await queries.add_revocation(connection, person_subject(person), self._clock())

    async def add_shares(self, connection: Connection, token: str, projects: Sequence[str]) -> None:
        """End the closure tokens that a token (id) was given of these projects (ids)."""
        for project in projects:
            await queries.add_revocation(connection, share_subject(token, project), self._clock())

    async def add_rule(self, connection: Connection, rule: str) -> None:
        """What is remembered of identities that a rule (id) mapped is looked up anew."""
        await queries.add_revocation(connection, rule_subject(rule), self._clock())

    async def add_key(self, connection: Connection, key_id: int) -> None:
        """End all closure tokens that were made with a key."""
        await queries.add_revocation(connection, key_subject(key_id), self._clock())

    def may_concern(self, subjects: Sequence[str]) -> bool:
        """Whether the database has to be asked: something was revoked, or this process may not know it."""
        if time.monotonic() - self._refreshed > STALE_SECONDS:
            return True
        return not self._moments.keys().isdisjoint(subjects)

    async def is_revoked(self, closure: Closure, issued: int) -> bool:
        """Whether a closure token that was made at a moment has ended before its hour."""
        subjects = subjects_of_closure(closure)
        if time.monotonic() - self._refreshed > STALE_SECONDS:
            listed = msgspec.json.encode(subjects).decode()
            self._take(await queries.revocations_of(self._database, listed, self._horizon()))
        return any(self._ends(subject, issued) for subject in subjects)

    async def refresh(self) -> None:
        """Read what is new."""
        started = time.monotonic()
        while len(self._seen) > 1 and started - self._seen[1][0] >= _SETTLE_SECONDS:
            self._seen.popleft()
        rows = await queries.revocations_after(self._database, self._seen[0][1], self._horizon())
        self._take(rows)
        highest = max([self._seen[-1][1], *(row["number"] for row in rows)])
        if highest > self._seen[-1][1]:
            self._seen.append((started, highest))
        self._refreshed = started

    async def watch(self) -> None:
        """Runs as long as the process serves."""
        while True:
            try:
                await self.refresh()
            except Exception as error:
                # Requests ask the database themselves meanwhile, and are refused if it doesn't answer.
                _log.warning("revocations-not-refreshed", error=type(error).__name__)
            self._forget()
            await asyncio.sleep(REFRESH_SECONDS)

    def _take(self, rows: Sequence[Row]) -> None:
        for row in rows:
            subject = row["subject"]
            self._moments[subject] = max(self._moments.get(subject, 0), row["created_at"])

    def _ends(self, subject: str, issued: int) -> bool:
        moment = self._moments.get(subject)
        if moment is None:
            return False
        # A token or a key never comes back; a manifest or a project may be resolved again.
        return subject.startswith(("token:", "key:")) or issued <= moment + _SKEW

    def _horizon(self) -> int:
        return self._clock() - LIFETIME_SECONDS * SECOND - _SKEW

    def _forget(self) -> None:
        horizon = self._horizon()
        for subject in [name for name, moment in self._moments.items() if moment < horizon]:
            del self._moments[subject]
