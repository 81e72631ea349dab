"""The table of routes, matched on raw path segments.

Clients send `%252A`, raw `+ ^ | [ ]`, `//` and `%2F` that must arrive as sent, so the target is split on `/`
first and each segment is decoded once after that. Every route names its permission and how its resource is
found; a route can't be written without.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from piste.hub.access.records import Actor, Organization, Permission, Project, Resource
from piste.hub.errors import HubError


class Scope(StrEnum):
    """How the resource of a request is found: from the segments `{org}` and `{project}`. PROJECT_TO_BE: where
    there is no such project its organization, in which the caller must be allowed to make one. RELEASE: the
    project may be deleted if `{release}` was one of its releases. NAMED: in the words of another dialect, in
    a header or the body, where `hub/naming.py` finds it and asks the guard."""

    HUB = "hub"
    ORGANIZATION = "organization"
    PROJECT = "project"
    RELEASE = "release"
    PROJECT_TO_BE = "project to be"
    NAMED = "named"


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
FormatError = Callable[[HubError, str], Response]  # the error and the request's id


@dataclass(frozen=True)
class Route:
    """One row: method, pattern of segments (`/api/v1/organizations/{org}`, last may be `{tail*}`),
    permission, scope."""

    method: str
    pattern: str
    permission: Permission
    scope: Scope
    handler: Handler = field(compare=False)
    body_limit: int = 1 << 20  # bytes; None is never unlimited: streaming routes give their own
    own_credential: bool = False  # its handler reads the credential, which is no token of this hub
    # How the clients of another dialect read errors; None: as Piste's own do.
    format_error: FormatError | None = field(default=None, compare=False)


class BadTargetError(ValueError):
    """The target of a request can't be taken apart."""


@dataclass(frozen=True)
class Match:
    """What the table has for a target: routes by method (empty: nothing), segments by position, raw tail."""

    routes: dict[str, Route]
    values: tuple[str, ...]
    tail: str

    def route(self, method: str) -> Route | None:
        """The route of a method; HEAD goes where GET goes."""
        return self.routes.get(method) or (self.routes.get("GET") if method == "HEAD" else None)

    def parameters(self, route: Route) -> dict[str, str]:
        return dict(zip(_parameter_names(route.pattern), self.values, strict=True))


NO_MATCH: Final = Match({}, (), "")


class _Node:
    """One place in the tree of patterns: literal segments first, then `{name}.suffix`, then `{name}`, then a
    tail."""

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.suffixed: list[tuple[str, _Node]] = []
        self.parameter: _Node | None = None
        self.tail: dict[str, Route] = {}
        self.routes: dict[str, Route] = {}


class Router:
    """Finds the route of a raw target. Two routes of the same method and pattern are an error."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in routes:
            self._add(route)

    def match(self, raw_path: bytes) -> Match:
        """BadTargetError for what is not a path, holds NUL, or isn't UTF-8 once decoded."""
        if not raw_path.startswith(b"/"):
            raise BadTargetError("the target is not a path")
        raw = raw_path[1:].split(b"/")
        return _find(self._root, raw, [_decode(segment) for segment in raw], 0, ()) or NO_MATCH

    def _add(self, route: Route) -> None:
        node = self._root
        target = None
        for segment in route.pattern.removeprefix("/").split("/"):
            if segment == "{tail*}":
                target = node.tail
                break
            node = _child(node, segment)
        target = node.routes if target is None else target
        if route.method in target:
            raise ValueError(f"two routes for {route.method} {route.pattern}")
        target[route.method] = route


def _child(node: _Node, segment: str) -> _Node:
    if not segment.startswith("{"):
        return node.literals.setdefault(segment, _Node())
    suffix = segment.partition("}")[2]
    if not suffix:
        node.parameter = node.parameter or _Node()
        return node.parameter
    for known, child in node.suffixed:
        if known == suffix:
            return child
    child = _Node()
    node.suffixed.append((suffix, child))
    return child


def _find(
    node: _Node, raw: list[bytes], segments: list[str], place: int, values: tuple[str, ...]
) -> Match | None:
    if place == len(segments):
        return Match(node.routes, values, "") if node.routes else None
    segment = segments[place]
    if (child := node.literals.get(segment)) is not None and (
        found := _find(child, raw, segments, place + 1, values)
    ):
        return found
    for suffix, child in node.suffixed:
        if len(segment) > len(suffix) and segment.endswith(suffix):
            value = segment.removesuffix(suffix)
            if found := _find(child, raw, segments, place + 1, (*values, value)):
                return found
    if segment and node.parameter is not None:
        found = _find(node.parameter, raw, segments, place + 1, (*values, segment))
        if found:
            return found
    if node.tail:
        return Match(node.tail, values, b"/".join(raw[place:]).decode("latin-1"))
    return None


def _decode(segment: bytes) -> str:
    """Percent-decode once."""
    decoded = unquote_to_bytes(segment) if b"%" in segment else segment
    try:
        text = decoded.decode()
    except UnicodeDecodeError as error:
        raise BadTargetError("a segment of the path is not UTF-8") from error
    if "\0" in text:
        raise BadTargetError("a segment of the path holds a NUL")
    return text


def _parameter_names(pattern: str) -> list[str]:
    return [
        segment[1:].partition("}")[0]
        for segment in pattern.split("/")
        if segment.startswith("{") and segment != "{tail*}"
    ]
