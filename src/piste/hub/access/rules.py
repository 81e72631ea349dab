"""May this actor do this on this resource, and why not: one function, one table, deny by default.

Pure: it is given records and decides. It must never ask anybody, so that the table can be read and tested as
it is.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from piste.hub.access.records import Actor, Kind, Organization, Permission, Project, Resource, Role

_P = Permission

# What anybody may, credential or not.
HUB_FOR_NOBODY: Final = frozenset(
    {_P.PUBLIC, _P.STATUS, _P.LIST, _P.CACHE_READ, _P.CACHE_LOG, _P.IDENTITY_EXCHANGE, _P.UPLOAD_SOURCE}
)
READ_OPEN: Final = frozenset({_P.PROJECT_READ, _P.PROJECT_SOURCE, _P.OUTPUT_RESOLVE, _P.CACHE_READ})
BY_VISIBILITY: Final = {
    "public": READ_OPEN | {_P.CACHE_LOG},
    "unlisted": READ_OPEN,  # whoever has its exact name
    "private": frozenset[Permission](),
}

_MEMBER: Final = frozenset(
    {
        _P.ORGANIZATION_READ,
        _P.CREDENTIAL_MANAGE,
        _P.PROJECT_CREATE,
        _P.PROJECT_READ,
        _P.PROJECT_SOURCE,
        _P.PROJECT_PUBLISH,
        _P.OUTPUT_RESOLVE,
        _P.CACHE_READ,
        _P.CACHE_WRITE,
        _P.CACHE_LOG,
        _P.UPLOAD_FINISH,
    }
)
_ADMIN: Final = _MEMBER | {_P.ORGANIZATION_ADMIN, _P.PROJECT_ADMIN}
# A machine of the organization: it reads, and learns nothing of people.
_DEVICE: Final = frozenset(
    {_P.PROJECT_READ, _P.PROJECT_SOURCE, _P.OUTPUT_RESOLVE, _P.CACHE_READ, _P.CACHE_LOG}
)
BY_ROLE: Final = {Role.MEMBER: _MEMBER, Role.ADMIN: _ADMIN, Role.OWNER: _ADMIN}

HUB_FOR_USER: Final = HUB_FOR_NOBODY | {_P.UPLOAD_FINISH}
HUB_FOR_SUPERUSER: Final = HUB_FOR_USER | {_P.ORGANIZATION_CREATE, _P.HUB_AUDIT}

# Credentials that are bound to one thing answer as themselves: they don't get what nobody may.
HUB_FOR_BOUND: Final = frozenset({_P.PUBLIC, _P.STATUS})
HUB_FOR_CLOSURE: Final = HUB_FOR_BOUND | {_P.CACHE_READ}
HUB_FOR_IDENTITY: Final = HUB_FOR_BOUND | {_P.CACHE_READ, _P.UPLOAD_FINISH}

# The identity of a CI in the projects that rules map it to; and for a moment after it has expired.
IDENTITY: Final = frozenset({_P.PROJECT_PUBLISH, _P.CACHE_READ, _P.CACHE_WRITE, _P.UPLOAD_FINISH})
LATE_IDENTITY: Final = frozenset({_P.UPLOAD_FINISH})


@dataclass(frozen=True)
class Verdict:
    """`visible` decides how a refusal is answered: an invisible thing is answered like a missing one."""

    allowed: bool
    visible: bool
    reason: str


ALLOWED: Final = Verdict(True, True, "allowed")
INVISIBLE: Final = Verdict(False, False, "the caller may not see it")


def decide(actor: Actor, permission: Permission, resource: Resource) -> Verdict:
    """The decision. What a bound credential may ask of its thing (requirement, path) is decided after
    this."""
    match actor.kind:
        case Kind.RESOLVE_ONLY:
            return _decide_resolve_only(actor, permission, resource)
        case Kind.CLOSURE:
            return _decide_closure(actor, permission, resource)
        case Kind.SESSION:
            return _decide_session(actor, permission, resource)
        case Kind.IDENTITY:
            return _decide_identity(actor, permission, resource)
        case Kind.USER | Kind.DEVICE | Kind.NOBODY:
            return _decide_person(actor, permission, resource)


def permissions_of(actor: Actor, organization: str) -> AbstractSet[Permission]:
    """What a person or a device may in an organization and all of its projects."""
    if actor.kind is Kind.DEVICE:
        return _DEVICE if actor.organization == organization else frozenset()
    if actor.kind is not Kind.USER or actor.organization not in (None, organization):
        return frozenset()
    if actor.superuser:
        return _ADMIN
    role = actor.roles.get(organization)
    return BY_ROLE[role] if role is not None else frozenset()


def _decide_person(actor: Actor, permission: Permission, resource: Resource) -> Verdict:
    match resource:
        case None:
            # A token that is confined to an organization doesn't make others.
            everywhere = actor.superuser and actor.organization is None
            person = HUB_FOR_USER if actor.kind is Kind.USER else HUB_FOR_NOBODY
            return _among(permission, HUB_FOR_SUPERUSER if everywhere else person, visible=True)
        case Organization():
            own = permissions_of(actor, resource.id)
            return _among(permission, own, visible=bool(own))
        case Project():
            granted = permissions_of(actor, resource.organization) | BY_VISIBILITY[resource.visibility]
            return _among(permission, granted, visible=bool(granted))


def _decide_resolve_only(actor: Actor, permission: Permission, resource: Resource) -> Verdict:
    if resource is None:
        return _among(permission, HUB_FOR_BOUND, visible=True)
    if actor.binding is None or not isinstance(resource, Project) or resource.id != actor.binding.project:
        return INVISIBLE
    return _among(permission, frozenset({Permission.OUTPUT_RESOLVE}), visible=True)


def _decide_closure(actor: Actor, permission: Permission, resource: Resource) -> Verdict:
    if resource is None:
        return _among(permission, HUB_FOR_CLOSURE, visible=True)
    if actor.closure is None or not isinstance(resource, Project) or resource.id != actor.closure.project:
        return INVISIBLE
    # Refused like missing: with the token of one closure nothing else of the project is to be learnt.
    return _among(permission, frozenset({Permission.CACHE_READ}), visible=False)


def _decide_session(actor: Actor, permission: Permission, resource: Resource) -> Verdict:
    """Which publication is decided after this."""
    session = actor.session
    match resource:
        case None:
            return _among(permission, HUB_FOR_BOUND, visible=True)
        case Organization() if session is not None and session.project is None:
            own = frozenset({Permission.PROJECT_CREATE}) if resource.id == actor.organization else frozenset()
            return _among(permission, own, visible=False)
        case Project() if session is not None and resource.id == session.project:
            return _among(permission, frozenset({Permission.PROJECT_PUBLISH}), visible=True)
        case _:
            return INVISIBLE


def _decide_identity(actor: Actor, permission: Permission, resource: Resource) -> Verdict:
    """Which upload it finishes is decided after this."""
    trusted = actor.trusted
    if trusted is None:
        return INVISIBLE
    match resource:
        case None:
            return _among(permission, LATE_IDENTITY if trusted.late else HUB_FOR_IDENTITY, visible=True)
        case Organization() if not trusted.late and any(owner == resource.id for owner, _ in trusted.pending):
            return _among(permission, frozenset({Permission.PROJECT_CREATE}), visible=False)
        case Project() if (
            # A request that makes the project goes on with what its rule is about.
            resource.id in trusted.projects
            or (resource.organization, resource.name.lower()) in trusted.pending
        ):
            return _among(permission, LATE_IDENTITY if trusted.late else IDENTITY, visible=True)
        case _:
            return INVISIBLE


def _among(permission: Permission, granted: AbstractSet[Permission], *, visible: bool) -> Verdict:
    if permission in granted:
        return ALLOWED
    return Verdict(False, visible, f"it would need the permission {permission}") if visible else INVISIBLE
