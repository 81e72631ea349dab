"""Writes the audit log: what changed in the transaction that changes it, what was refused a moment later.

A change and its entry are committed together or not at all. A refusal changes nothing and must cost nothing
either, so refusals wait for half a second and are written together; a crash loses those of that time. It must
never stop a request that reads.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from piste.hub import trail as trails
from piste.hub.access import queries as access_queries
from piste.hub.access.records import Actor
from piste.hub.access.token_text import looks_like_token
from piste.hub.audit import queries
from piste.hub.db.base import Connection, Database
from piste.hub.trail import Trail
from piste.lib.clock import SECOND, Clock
from piste.wire.audit import AuditEntry, entry_hash, entry_text

FLUSH_SECONDS: Final = 0.5
HUB_CHAIN: Final = ""
# Different refusals of one moment; what is more is counted together.
_MAX_WAITING: Final = 2000
_MAX_SUBJECT: Final = 500

_log = structlog.get_logger("piste.hub.audit")


@dataclass
class _Refused:
    trail: Trail
    reason: str
    at: int
    count: int = 1


class AuditLog:
    """The witness of every transaction of this process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: dict[tuple[object, ...], _Refused] = {}
        self._more = 0
        self._turn = asyncio.Lock()

    async def before_commit(self, connection: Connection) -> None:
        """Add the entry of what the transaction changes, unless its request has left the same already: one
        upload commits many times."""
        trail = trails.current()
        if trail is None or trail.recorded == _recorded(trail):
            return
        await self._add(connection, trail.organization or HUB_CHAIN, [_Refused(trail, "", self._clock())])

    def committed(self) -> None:
        trail = trails.current()
        if trail is not None:
            trail.recorded = _recorded(trail)

    def refused(self, trail: Trail, actor: Actor, reason: str) -> None:
        """Remember a refusal. Strangers to an organization stay unnamed in its log."""
        known = replace(trail)
        if known.organization is None:
            known.organization = actor.organization
            known.project_id = actor.closure.project if actor.closure else None
        elif not _belongs(actor, known.organization):
            known.person = known.name = known.issuer = None
        key = (known.token, known.address, known.action, known.organization, known.project_id, reason)
        if (same := self._waiting.get(key)) is not None:
            same.count += 1
        elif len(self._waiting) < _MAX_WAITING:
            self._waiting[key] = _Refused(known, reason, self._clock())
        else:
            self._more += 1

    async def flush(self) -> None:
        """Write the refusals that wait; those that are being written are there too when this ends."""
        async with self._turn:
            begun = trails.begin(None)  # an export that waits for this changes nothing itself
            try:
                await self._flush()
            finally:
                trails.end(begun)

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        more, self._more = self._more, 0
        if not waiting:
            return
        found = list(waiting.values())
        if more:
            rest = Trail(action="-", request_id="-", address="-", kind="-", subject="further refusals")
            found.append(_Refused(rest, "too many to be told apart", self._clock(), more))
        try:
            chains = await self._by_chain(found)
            async with self._database.transaction() as connection:
                # In one order, so that two processes wait for one another and don't deadlock.
                for chain in sorted(chains):
                    await self._add(connection, chain, chains[chain])
        except BaseException:
            self._waiting = waiting | self._waiting
            self._more += more
            raise

    async def watch(self) -> None:
        """Runs as long as the process serves."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception as error:
                # They stay and are written once the database is back, as far as there is room for them.
                _log.warning("refusals-not-written", error=type(error).__name__)

    async def _by_chain(self, found: Sequence[_Refused]) -> Mapping[str, list[_Refused]]:
        """Closure tokens say their project only; its organization is looked up here."""
        unknown = {
            each.trail.project_id for each in found if not each.trail.organization and each.trail.project_id
        }
        owners: dict[str, str] = {}
        if unknown:
            listed = msgspec.json.encode(sorted(unknown)).decode()
            projects = await access_queries.projects_by_id(self._database, listed)
            owners = {project.id: project.organization for project in projects}
        chains: dict[str, list[_Refused]] = defaultdict(list)
        for each in found:
            owner = each.trail.organization or owners.get(each.trail.project_id or "", HUB_CHAIN)
            chains[owner].append(each)
        return chains

    async def _add(self, connection: Connection, chain: str, found: Sequence[_Refused]) -> None:
        number, previous = await queries.next_number(connection, chain)
        rows = []
        for place, each in enumerate(found, number):
            text = entry_text(_entry(each, place, previous))
            previous = entry_hash(text)
            rows.append((chain, place, each.at, text, previous))
        await queries.add_entries(connection, rows)


def _recorded(trail: Trail) -> tuple[str | None, str | None]:
    return trail.organization, trail.subject


def _belongs(actor: Actor, organization: str) -> bool:
    trusted = actor.trusted is not None and organization in actor.trusted.organizations
    return trusted or actor.superuser or actor.organization == organization or organization in actor.roles


def _entry(found: _Refused, number: int, previous: str) -> AuditEntry:
    trail = found.trail
    return AuditEntry(
        number=number,
        at=moment(found.at),
        organization=trail.organization_name,
        kind=trail.kind,
        token=trail.token,
        person=trail.person,
        name=trail.name,
        action=trail.action,
        permission=trail.permission,
        project=trail.project,
        subject=_without_secrets(trail.subject),
        address=trail.address,
        allowed=not found.reason,
        reason=found.reason or None,
        count=found.count,
        request_id=trail.request_id,
        previous=previous,
        issuer=trail.issuer,
    )


def _without_secrets(subject: str | None) -> str | None:
    """Names only ever come here that were found to be names; a name can be a token that somebody mistook."""
    if subject is None:
        return None
    words = ("…" if looks_like_token(word) else word for word in subject.split(" "))
    return " ".join(words)[:_MAX_SUBJECT]


def moment(microseconds: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    seconds, rest = divmod(microseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06}Z"
