"""Credentials that were found good a moment ago, so that the thousands of narinfos of one closure cost a look
into memory each.

What is remembered counts only while this process knows of every revocation up to less than a second ago, and
of none that touches the credential; else the database is asked. It holds no token, only hashes.
"""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from piste.hub.access.records import Actor, Kind
from piste.hub.access.revocations import (
    Revocations,
    person_subject,
    rule_subject,
    subjects_of_closure,
    token_subject,
)
from piste.lib.clock import Clock

_MAX_KEPT: Final = 20_000
# Bounds what no revocation tells, such as a right that was taken away by hand in the database; and how late a
# use is noted.
_KEPT_SECONDS: Final = 30.0


@dataclass(frozen=True)
class _Known:
    actor: Actor
    learnt: float
    subjects: tuple[str, ...]


class Remembered:
    """Actors by the SHA-256 of the header that they sent."""

    def __init__(self, revocations: Revocations, clock: Clock) -> None:
        self._revocations = revocations
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def find(self, header: bytes) -> Actor | None:
        """None where the credential has to be looked up."""
        key = hashlib.sha256(header).digest()
        known = self._known.get(key)
        if known is None:
            return None
        expires = known.actor.expires_at
        if (
            time.monotonic() - known.learnt > _KEPT_SECONDS
            or (expires is not None and self._clock() >= expires)
            or self._revocations.may_concern(known.subjects)
        ):
            del self._known[key]
            return None
        return known.actor

    def keep(self, header: bytes, actor: Actor, started: float) -> None:
        """`started` is the monotonic time before the database was asked."""
        if actor.trusted is not None and (actor.trusted.pending or actor.trusted.late):
            return  # the next request may find the project
        if len(self._known) >= _MAX_KEPT:
            self._known.popitem(last=False)
        key = hashlib.sha256(header).digest()
        self._known[key] = _Known(actor, started, subjects_of(actor))


def subjects_of(actor: Actor) -> tuple[str, ...]:
    """What ends a credential when it is revoked."""
    found: list[str] = []
    if actor.kind is Kind.CLOSURE and actor.closure is not None:
        found += subjects_of_closure(actor.closure)
    if actor.token is not None:
        found.append(token_subject(actor.token))
    if actor.trusted is not None:
        found += map(rule_subject, actor.trusted.rules)
    if actor.person is not None:
        found.append(person_subject(actor.person))
    return tuple(found)
