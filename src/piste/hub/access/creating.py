"""Makes tokens: one, or many that belong together. Nothing else knows the text of a token."""

from dataclasses import dataclass, replace

import msgspec

from piste.hub.access import queries, token_queries, token_rules
from piste.hub.access.records import Kind, Organization, Project
from piste.hub.access.token_rules import TokenBounds
from piste.hub.access.token_text import hash_token, make_token
from piste.hub.errors import HubError, not_found
from piste.hub.routing import Exchange
from piste.hub.services import Services
from piste.hub.trail import note
from piste.lib.clock import SECOND
from piste.lib.identifiers import new_id
from piste.nix.flake_ref import FlakeRefError, parse_project
from piste.wire.tokens import CreatedToken, NewToken, NewTokens


@dataclass(frozen=True)
class Wanted:
    """A token to be made, found to be in order."""

    kind: Kind
    description: str
    seconds: int
    person: str | None = None  # id
    project: str | None = None  # id
    project_name: str | None = None
    bounds: TokenBounds | None = None


def make(exchange: Exchange, wanted: Wanted, now: int) -> tuple[CreatedToken, token_queries.TokenRow]:
    """A new token and its row."""
    organization, bounds = exchange.organization, wanted.bounds
    created = CreatedToken(
        id=new_id(now),
        token=make_token(wanted.kind),
        kind=wanted.kind,
        organization=organization.name,
        project=wanted.project_name,
        requirement=bounds.requirement if bounds else None,
        attribute=bounds.attribute if bounds else None,
        description=wanted.description,
        expires_at=now + wanted.seconds * SECOND,
        minimum_version=bounds.minimum_version if bounds else None,
    )
    row = token_queries.TokenRow(
        id=created.id,
        kind=wanted.kind,
        hash=hash_token(created.token),
        organization=organization.id,
        person=wanted.person,
        project=wanted.project,
        requirement=created.requirement,
        attribute=created.attribute,
        minimum_version=created.minimum_version,
        description=wanted.description,
        created_by=exchange.actor.person,
        created_at=now,
        expires_at=created.expires_at,
    )
    return created, row


async def resolve_only(
    services: Services, organization: Organization, asked: NewToken, known: dict[str, Project]
) -> Wanted:
    """A resolve-only token that was asked for; HubError says what is wrong with it. Projects that were looked
    up are kept in `known`."""
    kind = token_rules.check_kind(asked)
    bounds = token_rules.check_bounds(asked)
    name = asked.project or ""
    project = known.get(name)
    if project is None:
        project = known[name] = await _project(services, organization, name)
    seconds = token_rules.lifetime(kind, asked.expires_in)
    return Wanted(
        kind, asked.description, seconds, project=project.id, project_name=project.name, bounds=bounds
    )


async def make_many(services: Services, exchange: Exchange, asked: NewTokens) -> list[CreatedToken]:
    """Resolve-only tokens, all of them or none. A dry run makes none, and tells which versions each would
    allow."""
    if not 0 < len(asked.tokens) <= token_rules.MAX_TOGETHER:
        raise HubError("bad-request", f"From one to {token_rules.MAX_TOGETHER} tokens are made together.")
    known: dict[str, Project] = {}
    found = [
        await _of_many(services, exchange.organization, number, each, known)
        for number, each in enumerate(asked.tokens, 1)
    ]
    now = services.clock()
    made = [make(exchange, wanted, now) for wanted in found]
    if not asked.dry_run:
        async with services.database.transaction() as connection:
            await token_queries.add_tokens(connection, [row for _, row in made])
            note(f"{len(made)} resolve-only tokens {made[0][0].id} to {made[-1][0].id}")
    allowed = await _allowed(services, found)
    shown = [
        msgspec.structs.replace(created, allowed_versions=versions)
        for (created, _), versions in zip(made, allowed, strict=True)
    ]
    if asked.dry_run:
        return [msgspec.structs.replace(created, id="", token="") for created in shown]
    return shown


async def _of_many(
    services: Services, organization: Organization, number: int, asked: NewToken, known: dict[str, Project]
) -> Wanted:
    try:
        if asked.kind != Kind.RESOLVE_ONLY:
            raise HubError("bad-request", "Only resolve-only tokens are made together.")
        return await resolve_only(services, organization, asked, known)
    except HubError as error:
        context = {**error.context, "number": str(number)}
        message = f"Token {number}: {error.message}"
        raise HubError(error.ref, message, hint=error.hint, context=context) from error


async def with_versions(services: Services, created: CreatedToken, wanted: Wanted) -> CreatedToken:
    """The answer, with the versions that the token allows now."""
    (versions,) = await _allowed(services, [wanted])
    return msgspec.structs.replace(created, allowed_versions=versions)


async def _allowed(services: Services, found: list[Wanted]) -> list[list[str]]:
    """For each; hosts of a fleet share project and requirement, which are looked at once."""
    published: dict[str, list[str]] = {}
    known: dict[tuple[str, TokenBounds], list[str]] = {}
    allowed = []
    for wanted in found:
        project, bounds = wanted.project, wanted.bounds
        if project is None or bounds is None:
            raise TypeError("only resolve-only tokens are bound to versions")
        if project not in published:
            published[project] = await token_queries.release_versions(services.database, project)
        key = project, replace(bounds, attribute="")
        if key not in known:
            known[key] = token_rules.allowed_versions(bounds, published[project])
        allowed.append(known[key])
    return allowed


async def _project(services: Services, organization: Organization, text: str) -> Project:
    """`PROJECT` or `ORG/PROJECT` of this organization."""
    try:
        named, name = parse_project(text) if "/" in text else (organization.name, text)
    except FlakeRefError as error:
        raise HubError("bad-name", f"{error}") from error
    found = None
    if named.lower() == organization.name.lower():
        found = await queries.project_by_name(services.database, organization.name, name)
    if found is None:
        raise not_found()
    return found
