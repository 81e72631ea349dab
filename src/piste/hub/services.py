"""What the stages are given: the database, the objects, the clock, the settings, and who decides. Made by the
composition root."""

from dataclasses import dataclass

from piste.hub.access.authenticate import Authenticator
from piste.hub.access.closures import ClosureTokens
from piste.hub.access.guard import Guard
from piste.hub.access.keys import Keyring
from piste.hub.access.limits import Limits
from piste.hub.access.revocations import Revocations
from piste.hub.access.sealing import Sealer
from piste.hub.audit.log import AuditLog
from piste.hub.cache.upstreams import Upstreams
from piste.hub.cache.workers import Workers
from piste.hub.db.base import Connection, Database
from piste.hub.egress.outbound import Egress
from piste.hub.egress.rules import parse_allowances
from piste.hub.http1.memory import Memory
from piste.hub.identities.foreign import ForeignIdentities
from piste.hub.identities.issuers import Issuers
from piste.hub.identities.tokens import Identities
from piste.hub.plan.queue import DeltaQueue
from piste.hub.settings import Settings
from piste.hub.storage.base import Objects
from piste.lib.clock import Clock


@dataclass(frozen=True)
class Services:
    database: Database
    objects: Objects
    clock: Clock
    settings: Settings
    answers: Memory
    audit: AuditLog
    authenticator: Authenticator
    closures: ClosureTokens
    deltas: DeltaQueue
    egress: Egress
    guard: Guard
    identities: Identities
    keyring: Keyring
    limits: Limits
    revocations: Revocations
    sealer: Sealer
    upstreams: Upstreams
    workers: Workers


@dataclass(frozen=True)
class _Witnesses:
    """Who hears of every transaction: the audit log adds to it, answers given again are looked at after
    it."""

    audit: AuditLog
    answers: Memory

    async def before_commit(self, connection: Connection) -> None:
        await self.audit.before_commit(connection)

    def committed(self) -> None:
        self.audit.committed()
        self.answers.stale()


def make_services(database: Database, objects: Objects, clock: Clock, settings: Settings) -> Services:
    """Everything that is made of the first four."""
    audit, answers = AuditLog(database, clock), Memory()
    database.witness = _Witnesses(audit, answers)
    revocations = Revocations(database, clock)
    sealer = Sealer(settings.secrets_key)
    closures = ClosureTokens(database, objects, clock, revocations, sealer)
    egress = Egress(parse_allowances(settings.allow_egress))
    identities = Identities(database, Issuers(egress, clock), clock)
    foreign = ForeignIdentities(database, identities, clock)
    return Services(
        database=database,
        objects=objects,
        clock=clock,
        settings=settings,
        answers=answers,
        audit=audit,
        authenticator=Authenticator(database, closures, foreign, revocations, clock),
        closures=closures,
        deltas=DeltaQueue(),
        egress=egress,
        guard=Guard(database, closures),
        identities=identities,
        keyring=Keyring(database, clock, sealer),
        limits=Limits(database, clock, settings.rate_limits),
        revocations=revocations,
        sealer=sealer,
        upstreams=Upstreams(database, egress),
        workers=Workers(),
    )
