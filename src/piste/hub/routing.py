"""The table of routes, matched on raw path segments.

Clients send `%252A`, raw `+ ^ | [ ]`, `//` and `%2F` that must arrive as sent, so the target is split on `/` first and
each segment is decoded once after that. Every route names its permission and how its resource is found; a route can't
be written without.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response

from piste.hub.access.records import Actor, Organization, Permission, Project, Resource


class Scope(StrEnum):
    """How the resource of a request is found from the segments `{org}` and `{project}`."""

    HUB = "hub"
    ORGANIZATION = "organization"
    PROJECT = "project"


@dataclass(frozen=True)
class Exchange:
    """One request after it was routed, authenticated and allowed."""

    request: Request
    actor: Actor
    parameters: dict[str, str]  # segments by name, decoded once
    tail: str  # the raw rest, for routes that end in {tail*}
    resource: Resource
    request_id: str

    @property
    def organization(self) -> Organization:
        if not isinstance(self.resource, Organization):
            raise TypeError("the route's scope is not an organization")
        return self.resource

    @property
    def project(self) -> Project:
        if not isinstance(self.resource, Project):
            raise TypeError("the route's scope is not a project")
        return self.resource


Handler = Callable[[Exchange], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """One row: method, pattern of segments (`/api/v1/organizations/{org}`, last may be `{tail*}`), permission, scope."""

    method: str
    pattern: str
    permission: Permission
    scope: Scope
    handler: Handler = field(compare=False)
    body_limit: int = 1 << 20  # bytes; None is never unlimited: streaming routes give their own
