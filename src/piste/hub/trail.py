"""What a request is about, for the audit log. Dispatch begins the trail, handlers note on it what exactly
they change, and each transaction that is committed under it leaves an entry.

It must never hold a secret: what a client wrote goes on it only after it was found to be a name.
"""

from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Final

from piste.hub.access.records import Actor, Organization, Permission, Project, Resource

OPERATOR: Final = "operator"


@dataclass
class Trail:
    """Filled in as more becomes known."""

    action: str
    request_id: str
    address: str
    kind: str = "nobody"
    token: str | None = None  # id
    person: str | None = None  # id
    name: str | None = None
    issuer: str | None = None  # of an identity
    expires_at: int | None = None  # of the credential
    permission: str | None = None
    organization: str | None = None  # id
    organization_name: str | None = None
    project_id: str | None = None
    project: str | None = None
    subject: str | None = None
    ref: str | None = None  # of the error that it ended with
    recorded: tuple[str | None, str | None] | None = None  # what the log has of it

    def by(self, actor: Actor) -> None:
        self.kind = actor.kind
        self.token = actor.token or (actor.closure.parent or None if actor.closure else None)
        self.person, self.name, self.expires_at = actor.person, actor.name, actor.expires_at
        issued = actor.trusted or actor.session
        self.issuer = (issued.issuer or None) if issued is not None else None

    def to(self, permission: Permission, resource: Resource) -> None:
        self.permission = permission
        match resource:
            case Organization():
                self.organization, self.organization_name = resource.id, resource.name
            case Project():
                self.organization, self.organization_name = resource.organization, resource.organization_name
                self.project_id, self.project = resource.id, resource.name
            case None:
                pass


_CURRENT: ContextVar[Trail | None] = ContextVar("piste_trail", default=None)


def begin(trail: Trail | None) -> Token[Trail | None]:
    return _CURRENT.set(trail)


def end(token: Token[Trail | None]) -> None:
    _CURRENT.reset(token)


def current() -> Trail | None:
    """None where no request and no command is at work: housekeeping leaves no entries."""
    return _CURRENT.get()


def note(subject: str, *, organization: Organization | None = None) -> None:
    """Say what exactly is changed, before the transaction ends; and to which organization it belongs, where
    the route could not tell."""
    trail = _CURRENT.get()
    if trail is None:
        return
    trail.subject = subject
    if organization is not None:
        trail.organization, trail.organization_name = organization.id, organization.name
