"""Who may what: the whole table by hand, and every route of the hub held against it."""

import pytest

from piste.hub.access.records import (
    Actor,
    Binding,
    Closure,
    Kind,
    Organization,
    Permission,
    Project,
    Resource,
    Role,
    Session,
    Trusted,
)
from piste.hub.access.rules import decide
from piste.hub.app import routes
from piste.hub.routing import Router, Scope
from piste.hub.services import Services
from tests.hub.conftest import RunWithServices

P = Permission
ORGANIZATION = Organization(id="o1", name="acme", created_at=0)
PROJECTS = {
    visibility: Project(
        id=f"p-{visibility}",
        organization="o1",
        organization_name="acme",
        name=visibility,
        visibility=visibility,
        created_at=0,
    )
    for visibility in ("public", "unlisted", "private")
}
RESOURCES: dict[str, Resource] = {"hub": None, "organization": ORGANIZATION, **PROJECTS}

ACTORS = {
    "nobody": Actor(),
    "stranger": Actor(kind=Kind.USER, token="t", person="x", roles={"o2": Role.OWNER}),
    "member": Actor(kind=Kind.USER, token="t", person="x", roles={"o1": Role.MEMBER}),
    "confined elsewhere": Actor(
        kind=Kind.USER, token="t", person="x", organization="o2", roles={"o1": Role.OWNER, "o2": Role.OWNER}
    ),
    "admin": Actor(kind=Kind.USER, token="t", person="x", roles={"o1": Role.ADMIN}),
    "owner": Actor(kind=Kind.USER, token="t", person="x", roles={"o1": Role.OWNER}),
    "superuser": Actor(kind=Kind.USER, token="t", person="x", superuser=True),
    "superuser confined here": Actor(
        kind=Kind.USER, token="t", person="x", superuser=True, organization="o1"
    ),
    "superuser confined elsewhere": Actor(
        kind=Kind.USER, token="t", person="x", superuser=True, organization="o2"
    ),
    "device": Actor(kind=Kind.DEVICE, token="t", organization="o1"),
    "device elsewhere": Actor(kind=Kind.DEVICE, token="t", organization="o2"),
    "resolve-only": Actor(
        kind=Kind.RESOLVE_ONLY,
        token="t",
        organization="o1",
        binding=Binding(project="p-private", requirement="1", attribute="a", minimum_version=None),
    ),
    "closure": Actor(kind=Kind.CLOSURE, closure=Closure(project="p-private", manifest="m", parent="t")),
    "session": Actor(
        kind=Kind.SESSION,
        token="t",
        organization="o1",
        session=Session("p-private", "private", "1.0.0", rolling=False, stage=None),
    ),
    "pending session": Actor(
        kind=Kind.SESSION,
        token="t",
        organization="o1",
        session=Session(None, "new", "1.0.0", rolling=False, stage=None),
    ),
    "identity": Actor(
        kind=Kind.IDENTITY,
        trusted=Trusted(
            issuer="i", use="u", projects=frozenset({"p-private"}), organizations=frozenset({"o1"})
        ),
    ),
    "identity of nothing": Actor(kind=Kind.IDENTITY, trusted=Trusted(issuer="i", use="u")),
    "pending identity": Actor(
        kind=Kind.IDENTITY,
        trusted=Trusted(
            issuer="i", use="u", pending=frozenset({("o1", "new")}), organizations=frozenset({"o1"})
        ),
    ),
    "pending identity, just created": Actor(
        kind=Kind.IDENTITY,
        trusted=Trusted(
            issuer="i", use="u", pending=frozenset({("o1", "unlisted")}), organizations=frozenset({"o1"})
        ),
    ),
    "pending identity elsewhere": Actor(
        kind=Kind.IDENTITY,
        trusted=Trusted(
            issuer="i", use="u", pending=frozenset({("o2", "private")}), organizations=frozenset({"o2"})
        ),
    ),
    "late identity": Actor(
        kind=Kind.IDENTITY,
        trusted=Trusted(
            issuer="i",
            use="u",
            projects=frozenset({"p-private"}),
            pending=frozenset({("o1", "new")}),
            organizations=frozenset({"o1"}),
            late=True,
        ),
    ),
    "pending session elsewhere": Actor(
        kind=Kind.SESSION,
        token="t",
        organization="o2",
        session=Session(None, "private", "1.0.0", rolling=False, stage=None),
    ),
}

OPEN = {P.PROJECT_READ, P.PROJECT_SOURCE, P.OUTPUT_RESOLVE, P.CACHE_READ}
ANYBODY = {
    "hub": {P.PUBLIC, P.STATUS, P.LIST, P.CACHE_READ, P.CACHE_LOG, P.IDENTITY_EXCHANGE, P.UPLOAD_SOURCE},
    "organization": set[Permission](),
    "public": OPEN | {P.CACHE_LOG},
    "unlisted": OPEN,
    "private": set[Permission](),
}
INSIDE = OPEN | {P.CACHE_LOG, P.CACHE_WRITE, P.PROJECT_PUBLISH, P.PROJECT_CREATE}
INSIDE |= {P.ORGANIZATION_READ, P.CREDENTIAL_MANAGE, P.UPLOAD_FINISH}
PERSON = ANYBODY | {"hub": ANYBODY["hub"] | {P.UPLOAD_FINISH}}
AT_HOME = {"hub": PERSON["hub"], **dict.fromkeys(("organization", *PROJECTS), INSIDE)}
RULING = INSIDE | {P.ORGANIZATION_ADMIN, P.PROJECT_ADMIN}
IN_CHARGE = {"hub": PERSON["hub"], **dict.fromkeys(("organization", *PROJECTS), RULING)}

CI = {P.PROJECT_PUBLISH, P.CACHE_READ, P.CACHE_WRITE, P.UPLOAD_FINISH}
CI_AT_HUB = {"hub": {P.PUBLIC, P.STATUS, P.CACHE_READ, P.UPLOAD_FINISH}}

NOTHING: dict[str, set[Permission]] = {name: set() for name in RESOURCES}
ALLOWED = {
    "nobody": ANYBODY,
    "stranger": PERSON,
    "confined elsewhere": PERSON,
    "superuser confined elsewhere": PERSON,
    "member": AT_HOME,
    "admin": IN_CHARGE,
    "owner": IN_CHARGE,
    "superuser confined here": IN_CHARGE,
    "superuser": IN_CHARGE | {"hub": PERSON["hub"] | {P.ORGANIZATION_CREATE, P.HUB_AUDIT}},
    "device": {"hub": ANYBODY["hub"], **dict.fromkeys(("organization", *PROJECTS), OPEN | {P.CACHE_LOG})},
    "device elsewhere": ANYBODY,
    "resolve-only": NOTHING | {"hub": {P.PUBLIC, P.STATUS}, "private": {P.OUTPUT_RESOLVE}},
    "closure": NOTHING | {"hub": {P.PUBLIC, P.STATUS, P.CACHE_READ}, "private": {P.CACHE_READ}},
    "session": NOTHING | {"hub": {P.PUBLIC, P.STATUS}, "private": {P.PROJECT_PUBLISH}},
    "pending session": NOTHING | {"hub": {P.PUBLIC, P.STATUS}, "organization": {P.PROJECT_CREATE}},
    "identity": NOTHING | CI_AT_HUB | {"private": CI},
    "identity of nothing": NOTHING | CI_AT_HUB,
    "pending identity": NOTHING | CI_AT_HUB | {"organization": {P.PROJECT_CREATE}},
    # The request that makes the project goes on with it.
    "pending identity, just created": NOTHING
    | CI_AT_HUB
    | {"organization": {P.PROJECT_CREATE}, "unlisted": CI},
    "pending identity elsewhere": NOTHING | CI_AT_HUB,
    "late identity": NOTHING | {"hub": {P.UPLOAD_FINISH}, "private": {P.UPLOAD_FINISH}},
    "pending session elsewhere": NOTHING | {"hub": {P.PUBLIC, P.STATUS}},
}

# Where a route asks for a permission, by its scope. A permission that is not here fails the walk below.
SCOPES = {
    P.PUBLIC: {Scope.HUB},
    P.HUB_AUDIT: {Scope.HUB},
    P.STATUS: {Scope.HUB},
    P.LIST: {Scope.HUB},
    P.IDENTITY_EXCHANGE: {Scope.HUB},
    P.UPLOAD_FINISH: {Scope.HUB},
    P.UPLOAD_SOURCE: {Scope.HUB},
    P.ORGANIZATION_CREATE: {Scope.HUB},
    P.ORGANIZATION_READ: {Scope.ORGANIZATION},
    P.ORGANIZATION_ADMIN: {Scope.ORGANIZATION},
    P.CREDENTIAL_MANAGE: {Scope.ORGANIZATION},
    P.PROJECT_CREATE: {Scope.ORGANIZATION},
    P.PROJECT_READ: {Scope.PROJECT},
    P.PROJECT_SOURCE: {Scope.PROJECT, Scope.RELEASE},
    P.PROJECT_PUBLISH: {Scope.PROJECT, Scope.PROJECT_TO_BE},
    P.PROJECT_ADMIN: {Scope.PROJECT},
    P.OUTPUT_RESOLVE: {Scope.PROJECT},
    P.CACHE_READ: {Scope.PROJECT, Scope.HUB, Scope.NAMED},
    P.CACHE_WRITE: {Scope.PROJECT, Scope.NAMED},
    P.CACHE_LOG: {Scope.PROJECT, Scope.HUB},
}


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("actor", ACTORS)
def test_an_actor_may_exactly_what_the_table_says(actor: str, resource: str) -> None:
    allowed = {
        permission
        for permission in Permission
        if decide(ACTORS[actor], permission, RESOURCES[resource]).allowed
    }
    assert allowed == ALLOWED[actor][resource]


@pytest.mark.parametrize(
    ("actor", "resource", "visible"),
    [
        ("nobody", "organization", False),
        ("nobody", "private", False),
        ("nobody", "public", True),
        ("nobody", "unlisted", True),
        ("stranger", "private", False),
        ("stranger", "organization", False),
        ("confined elsewhere", "private", False),
        ("superuser confined elsewhere", "private", False),
        ("member", "private", True),
        ("member", "organization", True),
        ("resolve-only", "private", True),
        ("resolve-only", "public", False),
        ("resolve-only", "organization", False),
        ("closure", "private", False),
        ("closure", "public", False),
        ("session", "private", True),
        ("session", "public", False),
        ("session", "organization", False),
        ("identity", "private", True),
        ("identity", "public", False),
        ("identity", "organization", False),
        ("pending identity", "organization", False),
        ("late identity", "public", False),
        ("pending session", "organization", False),
        ("pending session", "private", False),
        ("pending session elsewhere", "private", False),
    ],
)
def test_what_is_refused_is_invisible_to(actor: str, resource: str, visible: bool) -> None:
    verdict = decide(ACTORS[actor], P.PROJECT_ADMIN, RESOURCES[resource])
    assert (verdict.allowed, verdict.visible) == (False, visible)


def test_every_route_names_a_permission_that_the_table_knows_at_its_scope(
    with_services: RunWithServices[None],
) -> None:
    async def walk(services: Services) -> None:
        found = routes(services)
        Router(found)  # two routes of one method and pattern would raise
        for route in found:
            assert route.permission in SCOPES, f"{route.method} {route.pattern} needs an unlisted permission"
            assert route.scope in SCOPES[route.permission], f"{route.method} {route.pattern}"
            for scope, name in ((Scope.ORGANIZATION, "{org}"), (Scope.PROJECT, "{project}")):
                if route.scope in (scope, Scope.PROJECT if scope is Scope.ORGANIZATION else scope):
                    assert name in route.pattern, f"{route.method} {route.pattern}"
            if route.method not in ("GET", "HEAD"):
                assert route.permission not in (P.PUBLIC, P.STATUS, P.LIST), route.pattern
            # Whoever skips the authentication of tokens has a permission of its own.
            own = (P.IDENTITY_EXCHANGE, P.UPLOAD_SOURCE)
            assert route.own_credential == (route.permission in own), route.pattern

    with_services(walk)


def test_every_permission_is_decided_for_every_actor() -> None:
    assert set(SCOPES) == set(Permission)
    assert ACTORS.keys() == ALLOWED.keys()
