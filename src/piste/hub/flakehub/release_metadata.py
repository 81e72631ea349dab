"""What `flakehub-push` says of a release, in Piste's words. Pure.

The body tells of the upload, not of the repository: `repo` is the project's own name again, and where the
source comes from is known from the identity of the CI, or guessed from where Nix has it from.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from piste.hub.errors import HubError
from piste.hub.flakehub.inventory import InventoryError, outputs_of
from piste.semver.version import Version, VersionError
from piste.wire.publication import DeclaredOutput, Metadata, OpenPublication

# By older clients' name, beside the three that Piste has too.
_VISIBILITIES: Final = {"hidden": "unlisted"}
_FORGES: Final = {"github": "https://github.com", "gitlab": "https://gitlab.com"}
_GITHUB_ISSUER: Final = "https://token.actions.githubusercontent.com"
_FORGEJO_SUFFIX: Final = "/api/actions"
_LABEL_LETTER: Final = re.compile(r"[^\W_]")
_LABELS: Final = 25
# Commas and brackets: each may stand for a value, which takes up to 200 bytes once it is taken apart. The
# 10,000 outputs that a release may have are some 100,000.
_VALUES: Final = 250_000
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ReleaseMetadata(msgspec.Struct, frozen=True):
    """The body of the stage request, as far as Piste has a place for it; the document has the rest."""

    commit_count: int | None = None
    description: str | None = None
    outputs: Any = None
    raw_flake_metadata: Any = None
    revision: str | None = None
    visibility: str | None = None
    mirrored: bool = False
    source_subdirectory: str | None = None
    spdx_identifier: str | None = None
    labels: list[str] | None = None


def parse_metadata(data: bytes | bytearray) -> tuple[ReleaseMetadata, list[DeclaredOutput], str]:
    """The message, the outputs that it names, and the whole text. CPU work for a large flake: call it in a
    thread.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > _VALUES:
        raise HubError("bad-request", "The metadata of the release are larger than any flake's.")
    try:
        message = msgspec.json.decode(data, type=ReleaseMetadata)
        text = data.decode()  # fields that are skipped above may hold anything
        outputs = outputs_of(message.outputs)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InventoryError) as error:
        raise HubError("bad-request", f"The metadata of the release can't be read: {error}.") from error
    if "\0" in text:
        raise HubError("bad-request", "The metadata of the release holds a NUL, which no JSON does.")
    return message, outputs, text


def opening(
    message: ReleaseMetadata, version: str, issuer: str | None, subject: str | None
) -> OpenPublication:
    """`version` as it stands in the address, with its `v`; issuer and subject of the identity of a CI."""
    visibility = message.visibility
    metadata = Metadata(
        description=message.description or None,
        labels=_labels(message.labels or ()),
        license=message.spdx_identifier or None,
        repository=repository_of(issuer, subject) or _repository_known_to_nix(message.raw_flake_metadata),
        # "" is the root of the repository.
        subdirectory=(message.source_subdirectory or "").strip("/") or None,
        revision=message.revision or None,
        commit_count=message.commit_count,
        mirrored=message.mirrored,
    )
    return OpenPublication(
        version=version,
        rolling=is_rolling(version),
        visibility=_VISIBILITIES.get(visibility or "", visibility),
        metadata=metadata,
    )


def is_rolling(version: str) -> bool:
    """The client does not say which it is, but only its rolling versions look like this."""
    try:
        return not version.startswith("v") and Version.parse(version).is_rolling
    except VersionError:
        return False


def _labels(labels: Any) -> list[str]:
    """In one order, since they come in another each time; without those that are signs alone."""
    fit = {label for label in labels if _LABEL_LETTER.search(label)}
    return sorted(fit)[:_LABELS]


def repository_of(issuer: str | None, subject: str | None) -> str | None:
    """The address of the repository that a run of a CI belongs to, where its subject tells."""
    if issuer is None or subject is None:
        return None
    key, _, rest = subject.partition(":")
    path = rest.partition(":")[0]
    if not all(_PLAIN.fullmatch(part) for part in path.split("/")) or "/" not in path:
        return None
    parts = urlsplit(issuer)
    origin = f"{parts.scheme}://{parts.netloc}"
    match key:
        case "repo" if issuer == _GITHUB_ISSUER:
            return f"{_FORGES['github']}/{path}"
        case "repo" if parts.path.endswith(_FORGEJO_SUFFIX):
            return f"{origin}{parts.path.removesuffix(_FORGEJO_SUFFIX)}/{path}"
        case "project_path":  # GitLab, whoever runs it
            return f"{origin}/{path}"
        case _:
            return None


def _repository_known_to_nix(flake: Any) -> str | None:
    for place in ("original", "resolved", "locked"):
        where = flake.get(place) if isinstance(flake, Mapping) else None
        found = _address(where) if isinstance(where, Mapping) else None
        if found is not None:
            return found
    return None


def _address(where: Mapping[str, Any]) -> str | None:
    kind, owner, repo, url = (where.get(name) for name in ("type", "owner", "repo", "url"))
    if kind in _FORGES and isinstance(owner, str) and isinstance(repo, str):
        host = where.get("host")
        origin = f"https://{host}" if isinstance(host, str) else _FORGES[kind]
        return f"{origin}/{owner}/{repo}"
    if kind != "git" or not isinstance(url, str):
        return None
    parts = urlsplit(url)
    secret = parts.scheme in ("http", "https") and "@" in parts.netloc
    return url if parts.scheme in ("https", "http", "ssh", "git") and not secret else None
