"""The exchange: an identity of a CI becomes a session token that publishes one version of one project for six
hours, since uploads outlive identities. Each identity is exchanged once.

Whoever is not trusted gets one answer, whether there is such a project, or a rule, or not.
"""

import structlog

from piste.hub.access import token_queries
from piste.hub.access.records import Kind
from piste.hub.access.token_text import hash_token, make_token
from piste.hub.db.base import ConflictError
from piste.hub.errors import HubError
from piste.hub.identities import queries, rules
from piste.hub.identities.records import Identity, TrustRule
from piste.hub.identities.tokens import SKEW
from piste.hub.publish.rules import LIFETIME, check_stage_name, version_to_publish
from piste.hub.services import Services
from piste.lib.clock import SECOND
from piste.lib.identifiers import new_id
from piste.nix.flake_ref import valid_name
from piste.wire.identities import CreatedSession, NewSession

_DESCRIPTION_LENGTH = 200

_log = structlog.get_logger("piste.hub.identities")


async def open_session(services: Services, identity: Identity, asked: NewSession) -> CreatedSession:
    """A session for what was asked for; HubError if no rule of that project trusts the identity."""
    version = str(version_to_publish(asked.version, rolling=asked.rolling))
    check_stage_name(asked.stage)
    rule = await _trusting(services, identity, asked)
    now = services.clock()
    created = CreatedSession(
        id=new_id(now),
        token=make_token(Kind.SESSION),
        organization=asked.organization,
        project=rule.project_name,
        version=version,
        rolling=asked.rolling,
        stage=asked.stage,
        expires_at=now + LIFETIME,
    )
    try:
        await _add(services, identity, rule, created, now)
    except ConflictError as error:
        raise HubError(
            "identity-used",
            "This identity was exchanged before.",
            hint="Ask the CI for a new one for each publication.",
        ) from error
    return created


async def _trusting(services: Services, identity: Identity, asked: NewSession) -> TrustRule:
    found = []
    if valid_name(asked.organization) and valid_name(asked.project):
        found = await queries.rules_of_project(services.database, asked.organization, asked.project)
    differences = {}
    for rule in found:
        difference = rules.agrees(rule, identity)
        if difference is None:
            return rule
        differences[rule.id] = difference
    _log.info(
        "identity-not-trusted",
        issuer=identity.issuer,
        subject=identity.subject,
        project=f"{asked.organization[:64]}/{asked.project[:64]}",
        differences=differences,
    )
    raise _not_trusted(identity)


async def _add(
    services: Services, identity: Identity, rule: TrustRule, created: CreatedSession, now: int
) -> None:
    async with services.database.transaction() as connection:
        held = await queries.hold_rule(connection, rule.id)
        if held is None:
            raise _not_trusted(identity)  # it was removed at this moment
        await queries.use_identity(connection, identity.use, (identity.expires + SKEW) * SECOND)
        row = token_queries.TokenRow(
            id=created.id,
            kind=Kind.SESSION,
            hash=hash_token(created.token),
            organization=held["organization"],
            project=held["project"],
            description=f"{created.version} by {identity.subject}"[:_DESCRIPTION_LENGTH],
            created_by=None,
            created_at=now,
            expires_at=created.expires_at,
        )
        await token_queries.add_token(connection, row)
        wanted = (created.version, created.rolling, created.stage)
        origin = (identity.issuer, identity.subject)
        await queries.add_session(connection, (created.id, rule.id, held["project_name"], *wanted, *origin))


def _not_trusted(identity: Identity) -> HubError:
    return HubError(
        "identity-not-trusted",
        "No rule lets this identity publish to such a project.",
        hint="An admin compares `piste trust list` with what the identity says; the hub's log names the "
        "claim that differs.",
        context={
            "issuer": identity.issuer,
            "subject": identity.subject,
            "audience": " ".join(identity.audience)[:200],
        },
    )
