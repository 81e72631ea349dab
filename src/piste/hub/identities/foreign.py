"""Identities of CIs as foreign clients send them: the JWT itself with each request, where a token belongs.

They are good for the projects that rules map them to, as often as they are sent, and for nothing else. What
was verified is remembered for a minute; the rules that agreed are looked up anew for each request, so that
one that is removed ends what it gave at once.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from piste.hub.access.records import Actor, Kind, Trusted
from piste.hub.db.base import Database
from piste.hub.errors import HubError
from piste.hub.identities import queries, rules
from piste.hub.identities.records import Identity, TrustRule
from piste.hub.identities.tokens import SKEW, Identities, expired
from piste.lib.clock import SECOND, Clock

# An upload that was opened in time may be finished when its identity has expired: large sources take minutes.
GRACE: Final = 30 * 60  # seconds
_KEPT_SECONDS: Final = 60.0
_MAX_KEPT: Final = 2000  # of some kilobytes each

_log = structlog.get_logger("piste.hub.identities")


@dataclass(frozen=True)
class _Known:
    identity: Identity
    rules: tuple[str, ...]  # ids of those that agree
    learnt: float


class ForeignIdentities:
    """Identities by the SHA-256 of their text."""

    def __init__(self, database: Database, identities: Identities, clock: Clock) -> None:
        self._database = database
        self._identities = identities
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def actor(self, text: str, *, late: bool) -> Actor:
        """The actor of an identity; HubError for one that doesn't count, or that no rule trusts. `late`: one
        that has expired a moment ago will do, and is told apart."""
        key = hashlib.sha256(text.encode("latin-1", "replace")).digest()
        known = self._known.get(key)
        if known is not None and time.monotonic() - known.learnt <= _KEPT_SECONDS:
            agreeing = await queries.rules_by_id(self._database, known.rules)
            if agreeing:
                return self._actor(known.identity, agreeing, late)
        self._known.pop(key, None)
        learnt = time.monotonic()
        identity = await self._identities.verify(text, late=GRACE if late else 0)
        agreeing = await self._agreeing(identity)
        if len(self._known) >= _MAX_KEPT:
            self._known.popitem(last=False)
        self._known[key] = _Known(identity, tuple(rule.id for rule in agreeing), learnt)
        return self._actor(identity, agreeing, late)

    async def _agreeing(self, identity: Identity) -> list[TrustRule]:
        found = await queries.rules_for(self._database, identity.issuer, identity.audience)
        agreeing = [rule for rule in found if rules.agrees(rule, identity) is None]
        if not agreeing:
            _log.info("identity-not-trusted", issuer=identity.issuer, subject=identity.subject)
            raise _not_trusted(identity)
        return agreeing

    def _actor(self, identity: Identity, agreeing: Sequence[TrustRule], late: bool) -> Actor:
        over = self._clock() >= (identity.expires + SKEW) * SECOND
        if over and not (late and self._clock() < (identity.expires + SKEW + GRACE) * SECOND):
            raise expired()
        pending = {(rule.organization, rule.project_name.lower()) for rule in agreeing if not rule.project}
        trusted = Trusted(
            issuer=identity.issuer,
            use=identity.use,
            projects=frozenset(rule.project for rule in agreeing if rule.project),
            pending=frozenset(pending),
            organizations=frozenset(rule.organization for rule in agreeing),
            rules=tuple(sorted(rule.id for rule in agreeing)),
            late=over,
        )
        return _named(identity, trusted)


def _named(identity: Identity, trusted: Trusted) -> Actor:
    owners = sorted(trusted.organizations)
    return Actor(
        kind=Kind.IDENTITY,
        name=identity.subject,
        # For the audit log: whose it is when what it asked for belongs to nobody.
        organization=owners[0] if len(owners) == 1 else None,
        trusted=trusted,
        expires_at=(identity.expires + SKEW) * SECOND,
    )


def _not_trusted(identity: Identity) -> HubError:
    return HubError(
        "identity-not-trusted",
        "No rule of this hub trusts this identity.",
        hint="An admin compares `piste trust list` with what the identity says, its audience too.",
        context={
            "issuer": identity.issuer,
            "subject": identity.subject,
            "audience": " ".join(identity.audience)[:200],
        },
        reason="no rule trusts this identity",
        actor=_named(identity, Trusted(issuer=identity.issuer, use=identity.use)),
    )
