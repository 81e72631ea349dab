"""`fh` as it speaks: raw requests as its libraries write them, answers decoded as strictly as there.

It encodes each argument as one segment and leaves `* = + ~ , ^ : @ ! $ & ' ( ) ; | [ ]` as they are; the
constraint of `list versions` it encodes twice.
"""

import http.client
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, quote_plus, urlsplit

import msgspec

from piste.semver.version import Version

USER_AGENT = "fh/0.1.28"
_LEFT_AS_IT_IS = "*=+~,^:@!$&'();|[]-_."
T = TypeVar("T")
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Flake(msgspec.Struct):
    org: str
    project: str


class OwnersProject(msgspec.Struct):
    organization_name: str
    name: str


class Organization(msgspec.Struct):
    name: str


class Release(msgspec.Struct):
    simplified_version: str
    version: str
    revision: str
    published_at: Moment | None = None
    updated_at: Moment | None = None
    commit_count: int | None = None


class FoundVersion(msgspec.Struct):
    version: str
    simplified_version: str


class Metadata(msgspec.Struct):
    """What `add`, `convert` and `eject` need, together."""

    project: str
    pretty_download_url: str
    source_github_owner_repo_pair: str
    version: str
    source_subdirectory: str | None = None


class Output(msgspec.Struct):
    attribute_path: str
    store_path: str
    token: str | None = None


class TokenStatus(msgspec.Struct):
    gh_name: str
    expires_at: int


@dataclass(frozen=True)
class Heard:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def read(self, shape: type[T]) -> T:
        """The body as that shape, or an error as `fh` would have one."""
        return msgspec.json.decode(self.body, type=shape)

    @property
    def sentence(self) -> str:
        """What an error says: a JSON string of one line."""
        said = json.loads(self.body)
        assert isinstance(said, str), f"not a JSON string: {self.body!r}"
        assert said and "\n" not in said
        return said


def segment(text: str) -> str:
    """An argument as one segment of a path."""
    return quote(text, safe=_LEFT_AS_IT_IS)


def twice(text: str) -> str:
    """An argument that was encoded before it became a segment."""
    return segment(quote(text, safe=""))


@dataclass(frozen=True)
class Fh:
    """Somebody's `fh`, with the token in their file or without one. `base`: FH_API_ADDR."""

    base: str
    token: str | None = None
    send: Callable[[str, bytes], Heard] = field(default=lambda host, request: exchange(host, request))

    def raw(self, target: str, accept: str = "application/json", token: str | None = None) -> Heard:
        """One GET, its target as it is written."""
        host = urlsplit(self.base).netloc
        lines = [f"GET {target} HTTP/1.1", f"accept: {accept}", f"user-agent: {USER_AGENT}"]
        if token is not None:
            lines.append(f"authorization: Bearer {token}")
        lines += [f"host: {host}", "", ""]
        return self.send(host, "\r\n".join(lines).encode())

    def get(self, *segments: str, query: str = "") -> Heard:
        target = "/" + "/".join(segments) + (f"?{query}" if query else "")
        return self.raw(target, token=self.token)

    def status(self) -> Heard:
        return self.raw("/cli/status", accept="*/*", token=self.token)

    def search(self, words: str) -> Heard:
        """Without the token, whether there is one or not."""
        return self.raw(f"/search?q={quote_plus(words)}")

    def list_flakes(self, owner: str | None = None) -> Heard:
        return self.get("flakes") if owner is None else self.get("orgs", segment(owner), "projects")

    def list_label(self, label: str) -> Heard:
        return self.get("label", segment(label.lower()))

    def list_orgs(self) -> Heard:
        return self.get("orgs", query="include_public=true")

    def list_releases(self, flake: str) -> Heard:
        return self.get("f", *_both(flake), "releases")

    def list_versions(self, flake: str, constraint: str) -> Heard:
        return self.get("version", "resolve", *_both(flake), twice(constraint))

    def metadata(self, flake: str, requirement: str | None = None) -> Heard:
        """What `add` and `convert` look up."""
        if requirement is None:
            return self.get("f", *_both(flake))
        return self.get("version", *_both(flake), segment(requirement))

    def resolve(self, reference: str, *, include_token: bool = False) -> Heard:
        """`org/project/requirement#attribute`; `fetch` and `apply` ask for a token."""
        place, _, attribute = reference.partition("#")
        organization, project, requirement = place.split("/")
        query = "include_token=true" if include_token else ""
        return self.get(
            "f",
            segment(organization),
            segment(project),
            segment(requirement),
            "output",
            segment(attribute),
            query=query,
        )


def exchange(host: str, request: bytes) -> Heard:
    """These bytes, and what is answered to them."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=30) as channel:
        channel.sendall(request)
        response = http.client.HTTPResponse(channel, method="GET")
        response.begin()
        return Heard(response.status, response.headers, response.read())


def complete_versions(found: Sequence[FoundVersion]) -> list[str]:
    """The versions, each of them complete as `fh` parses it."""
    for each in found:
        assert Version.parse(each.simplified_version) == Version.parse(each.version).simplified
    return [each.version for each in found]


def _both(flake: str) -> tuple[str, str]:
    organization, project = flake.split("/")
    return segment(organization), segment(project)


def as_json(heard: Heard) -> Any:
    assert heard.status == 200, heard.body
    return json.loads(heard.body)
