"""What Attic's clients and the hub say to one another: names of caches, messages, errors. Pure.

Clients of FlakeHub Cache call a project's cache `<id of the organization>:<id of the project>`, Attic's own
client can only have `ORG+PROJECT`. Must never refuse a field that a newer client adds.
"""

import re
from typing import Final

import msgspec
from starlette.responses import Response

from piste.hub.errors import HubError
from piste.hub.http import json_response
from piste.hub.naming import ProjectName
from piste.hub.publish.rules import checked_path
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import STORE_DIR
from piste.wire.publication import DeclaredPath

INFO_HEADER: Final = "x-attic-nar-info"
PREAMBLE_HEADER: Final = "x-attic-nar-info-preamble-size"
# A path with 5,000 references takes 300 kB.
INFO_LIMIT: Final = 2 << 20
PRIORITY: Final = 41

_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BY_ID: Final = re.compile(f"({_ID}):({_ID})")


class Project(msgspec.Struct, frozen=True):
    organization_uuid_v7: str
    project_uuid_v7: str


class CacheConfig(msgspec.Struct, frozen=True):
    substituter_endpoint: str
    api_endpoint: str
    is_public: bool
    upstream_cache_key_names: list[str]
    store_dir: str = STORE_DIR
    priority: int = PRIORITY
    retention_period: str = "Global"
    public_key: str | None = None


class WantedPaths(msgspec.Struct, frozen=True):
    cache: str
    store_path_hashes: list[str]


class MissingPaths(msgspec.Struct, frozen=True):
    missing_paths: list[str]


class NarDescription(msgspec.Struct, frozen=True):
    """What a client says of the NAR that it uploads. `system` is of no use to anybody."""

    cache: str
    store_path_hash: str
    store_path: str
    references: list[str]
    nar_hash: str
    nar_size: int
    sigs: list[str] = []
    ca: str | None = None
    deriver: str | None = None


class Uploaded(msgspec.Struct, frozen=True):
    kind: str  # Uploaded, or Deduplicated for what the project had
    file_size: int
    frac_deduplicated: float | None = None


class Failure(msgspec.Struct, frozen=True):
    code: int
    error: str
    message: str


def parse_cache_name(text: str) -> ProjectName | None:
    """None for what no cache can be called."""
    if match := _BY_ID.fullmatch(text.lower()):
        return ProjectName(match[1], match[2], by_id=True)
    organization, plus, project = text.partition("+")
    return ProjectName(organization, project) if plus else None


def parse_description(data: bytes) -> NarDescription:
    """HubError says what is wrong with it."""
    try:
        return msgspec.json.decode(data, type=NarDescription)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HubError("bad-request", f"What is said of the NAR can't be read: {error}.") from error


def path_info(said: NarDescription) -> PathInfo:
    """What a client says of a path, as what it is; HubError `bad-path-info` names what is wrong."""
    base_name = _base_name(said.store_path)
    if not said.store_path.startswith(f"{STORE_DIR}/{said.store_path_hash}-"):
        raise HubError("bad-path-info", f"{said.store_path[:300]} is not the path of the hash that is named.")
    declared = DeclaredPath(
        path=base_name,
        nar_hash=said.nar_hash,
        nar_size=said.nar_size,
        references=[_base_name(name) for name in said.references],
        deriver=_base_name(said.deriver) if said.deriver else None,
        signatures=said.sigs,
        content_address=said.ca or None,
    )
    return checked_path(declared)


def _base_name(text: str) -> str:
    """With or without the store directory."""
    return text.removeprefix(f"{STORE_DIR}/")


def format_error(error: HubError, request_id: str) -> Response:
    """An error as Attic's clients show it: the kind, and one line of text."""
    text = error.message if error.hint is None else f"{error.message} {error.hint}"
    kind = "".join(word.capitalize() for word in error.ref.split("-"))
    response = json_response(Failure(error.status, kind, text), error.status)
    if error.status == 401:
        response.headers.append("WWW-Authenticate", "Bearer")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
