"""What may be published, decided from records alone: versions, metadata, declarations, licences. Never asks
anybody.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from piste.hub.access.records import Actor, Project
from piste.hub.cache.records import PathRecord
from piste.hub.db.base import Row
from piste.hub.errors import HubError
from piste.hub.publish.records import PINNED, PRESENT, VERIFIED, StagedOutput, StagedPath
from piste.nix.flake_ref import FlakeRefError, format_attribute_path, parse_attribute_path
from piste.nix.hashes import Hash, HashError
from piste.nix.narinfo import NarInfoError, PathInfo
from piste.nix.signature import is_signature
from piste.nix.store_path import StorePath, StorePathError
from piste.semver.version import Version, VersionError
from piste.wire.publication import DeclaredOutput, DeclaredPath, Metadata, OpenPublication

LIFETIME: Final = 6 * 3600 * 1_000_000
MAX_PATHS: Final = 100_000  # in one declaration
MAX_OUTPUTS: Final = 10_000
MAX_LABELS: Final = 25  # FlakeHub's own limit
SHOWN_MISSING: Final = 10
SOURCE_LIMIT: Final = 512 << 20  # bytes of the .tar.gz
READY: Final = frozenset({VERIFIED, PRESENT, PINNED})

_STAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Letters of any script, as FlakeHub's own client lets them pass; one of them or a digit has to be there.
_LABEL: Final = re.compile(r"(?=[.-]*[^\W_])[\w.-]{1,50}")
_UNREADABLE: Final = re.compile(r"C[cson]|Z[lp]")
_TURNING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_REVISION: Final = re.compile(r"[0-9a-f]{40}")
SYSTEM: Final = re.compile(r"[a-z0-9_]{1,32}-[a-z0-9_-]{1,32}")


def version_to_publish(text: str, *, rolling: bool) -> Version:
    """The version of a publication; HubError when it may not have it."""
    try:
        version = Version.from_tag(text)
    except VersionError as error:
        raise HubError("bad-version", f"The version can't be published: {error}.") from error
    if rolling and not version.is_rolling:
        raise HubError(
            "bad-version",
            f"{text} is not a rolling version.",
            hint="A rolling version is 0.<minor>.<commit count>+rev-<40 hex digits>.",
        )
    return version


def check_version_is_new(
    project: Project, version: Version, revision: str | None, existing: Row | None
) -> None:
    """Before anything is sent for a version that a project has already."""
    if existing is None:
        return
    name = f"{project.organization_name}/{project.name}"
    if existing["revision"] == revision:
        raise HubError(
            "already-exists",
            f"Version {existing['version']} of {name} is published already, from this commit.",
        )
    raise HubError(
        "content-differs",
        f"Version {existing['version']} of {name} is published already, from another commit, so {version}"
        " can't be.",
        hint="A version never changes. Publish the next one; two commits with one commit count mean a"
        " shallow clone, or a branch that was rewritten.",
    )


def check_stage_name(stage: str | None) -> None:
    if stage is not None and not _STAGE.fullmatch(stage):
        raise HubError(
            "bad-name", "A stage's name has letters, digits, dots, dashes and underscores, 128 at most."
        )


def check_session(actor: Actor, version: Version, wanted: OpenPublication) -> None:
    """A session publishes what it was made for: that version, under that stage."""
    session = actor.session
    if session is None:
        return
    if (session.version, session.rolling, session.stage) != (str(version), wanted.rolling, wanted.stage):
        raise HubError(
            "forbidden",
            f"This session publishes version {session.version} alone"
            + (f", under the stage {session.stage}." if session.stage is not None else "."),
            hint="Exchange another identity of the CI for the other publication.",
        )


def check_metadata(metadata: Metadata) -> None:
    """Bounds on what a publisher says, since it is shown to others."""
    long = {"description": 4096, "license": 256, "repository": 2048, "subdirectory": 1024}
    for name, limit in long.items():
        text = getattr(metadata, name)
        readable = is_readable if name == "description" else str.isprintable
        if text is not None and (len(text) > limit or not readable(text)):
            raise HubError(
                "bad-request", f"The {name} is longer than {limit} characters or has control characters."
            )
    if metadata.repository is not None and urlsplit(metadata.repository).scheme not in (
        "https",
        "http",
        "ssh",
        "git",
    ):
        raise HubError("bad-request", "The repository is not an address.", hint="It looks like https://….")
    if metadata.subdirectory is not None:
        parts = metadata.subdirectory.strip("/").split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise HubError("bad-request", "The subdirectory is not a folder inside the source.")
    if metadata.revision is not None and not _REVISION.fullmatch(metadata.revision):
        raise HubError("bad-request", "The revision is not a commit: 40 hex digits.")
    if metadata.commit_count is not None and not 0 <= metadata.commit_count < 1 << 53:
        raise HubError("bad-request", "The commit count is not a count.")
    if len(metadata.labels) > MAX_LABELS or not all(_LABEL.fullmatch(label) for label in metadata.labels):
        raise HubError(
            "bad-request", f"Labels are at most {MAX_LABELS} words of letters, digits, dots and dashes."
        )


def is_readable(text: str) -> bool:
    """Whether a text may be shown as it is: no control characters but line feeds and tabs, and nothing that
    turns the direction of writing. What joins the parts of an emoji, and spaces of any script, are fine.
    """
    return not any(
        _UNREADABLE.fullmatch(unicodedata.category(c)) or c in _TURNING for c in text if c not in "\n\t"
    )


def checked_path(declared: DeclaredPath) -> PathInfo:
    """A declared path as what it is; HubError `bad-path-info` names what is wrong."""
    try:
        info = PathInfo(
            path=StorePath.from_base_name(declared.path),
            nar_hash=Hash.parse(declared.nar_hash, "sha256"),
            nar_size=declared.nar_size,
            references=tuple(StorePath.from_base_name(name) for name in declared.references),
            deriver=StorePath.from_base_name(declared.deriver) if declared.deriver else None,
            signatures=tuple(declared.signatures),
            ca=declared.content_address,
        )
    except (StorePathError, HashError, NarInfoError) as error:
        raise HubError(
            "bad-path-info", f"The declaration of {declared.path[:300]} is wrong: {error}."
        ) from error
    ca = declared.content_address
    if ca is not None and (len(ca) > 256 or not ca.isprintable() or " " in ca):
        raise HubError("bad-path-info", f"The content address of {declared.path} can't be read.")
    if len(declared.signatures) > 20 or not all(is_signature(each) for each in declared.signatures):
        raise HubError("bad-path-info", f"The signatures of {declared.path} can't be read.")
    return info


def staged(
    info: PathInfo, state: str, *, upstream: str | None = None, narinfo: str | None = None
) -> StagedPath:
    """The row of a declared path."""
    known = msgspec.structs.asdict(PathRecord.of(info))
    return StagedPath(**(known | {"upstream": upstream, "upstream_narinfo": narinfo, "state": state}))


def described(paths: Iterable[PathRecord]) -> list[DeclaredPath]:
    """What is known of the paths that are there, for their publishers."""
    return [
        DeclaredPath(
            path=path.base_name,
            nar_hash=path.nar_hash,
            nar_size=path.nar_size,
            references=path.references,
            deriver=path.deriver,
            signatures=path.all_signatures,
            content_address=path.content_address,
        )
        for path in paths
    ]


def with_signatures(path: StagedPath, declared: Iterable[str], publishers: Collection[str]) -> StagedPath:
    """What was known of a path already, and what keys that publishers hold (names) are said to have signed;
    finishing verifies it.
    """
    brought = [each for each in declared if each.partition(":")[0] in publishers]
    if not brought:
        return path
    signatures = list(dict.fromkeys([*path.all_signatures, *brought]))
    return msgspec.structs.replace(path, signatures=msgspec.json.encode(signatures).decode())


def checked_output(declared: DeclaredOutput) -> StagedOutput:
    """A declared output with its attribute path in its one spelling."""
    try:
        attribute = format_attribute_path(parse_attribute_path(declared.attribute))
        path = StorePath.parse(declared.store_path)
    except (FlakeRefError, StorePathError) as error:
        raise HubError(
            "bad-path-info", f"The output {declared.attribute[:300]} is wrong: {error}."
        ) from error
    if declared.system is not None and not SYSTEM.fullmatch(declared.system):
        raise HubError("bad-path-info", f"The system of {attribute} is none, such as x86_64-linux.")
    return StagedOutput(attribute, str(path), declared.system, declared.required)


def checked_outputs(declared: Sequence[DeclaredOutput]) -> list[StagedOutput]:
    """All outputs of a release; HubError names the one that is wrong."""
    if len(declared) > MAX_OUTPUTS:
        raise HubError("body-too-large", f"A release has at most {MAX_OUTPUTS} outputs.")
    return [checked_output(each) for each in declared]


class KnownPaths(Protocol):
    """Paths by base name: which are there, and what is known of the references of all."""

    def __contains__(self, name: str, /) -> bool: ...
    def references(self, name: str, /) -> Sequence[str]: ...


def missing_chains(root: str, paths: KnownPaths) -> dict[str, list[str]]:
    """The members of a closure that are not there, each with the chain of references that leads to it (base
    names). A path that was not declared is missing like one that was not uploaded.
    """
    missing: dict[str, list[str]] = {}
    came_from: dict[str, str | None] = {root: None}
    waiting = [root]
    for name in waiting:
        if name not in paths:
            missing[name] = _chain(came_from, name)
        for reference in paths.references(name):
            if reference not in came_from:
                came_from[reference] = name
                waiting.append(reference)
    return missing


def _chain(came_from: Mapping[str, str | None], name: str) -> list[str]:
    chain: list[str] = []
    at: str | None = name
    while at is not None:
        chain.append(at)
        at = came_from[at]
    return chain[::-1]


def too_many_paths() -> HubError:
    """For one request."""
    return HubError("body-too-large", f"One request has at most {MAX_PATHS} paths.")


def output_incomplete(attribute: str, missing: Mapping[str, list[str]]) -> HubError:
    """The error that names what a required output lacks."""
    shown = list(missing.items())[:SHOWN_MISSING]
    lines = [" → ".join(chain) for _, chain in shown]
    more = len(missing) - len(shown)
    return HubError(
        "output-incomplete",
        f"The output {attribute} is not complete: {len(missing)} of the paths of its closure are missing.",
        hint="Upload the paths that are named here, then finish again; nobody declared them, or their NARs"
        " did not arrive.",
        context={
            **{f"missing-{number}": line for number, line in enumerate(lines, 1)},
            **({"further": str(more)} if more else {}),
        },
    )


def undeclared(path: StagedPath, found: frozenset[str]) -> set[str]:
    """Hash parts that the NAR of a path mentions though the declaration doesn't."""
    return set(found) - {name[:32] for name in path.references} - {path.hash_part}


# Phrases by which a licence's text is known. The longer names come before those that they contain.
_LICENSE_PHRASES: Final = (
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3")),
    ("LGPL-2.1-only", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0-only", ("gnu general public license", "version 3")),
    ("GPL-2.0-only", ("gnu general public license", "version 2")),
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license version 2.0",)),
    ("EUPL-1.2", ("european union public licence", "1.2")),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software for any purpose",)),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "endorse or promote")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("MIT", ("permission is hereby granted, free of charge", "without restriction")),
)


def license_of(text: str) -> str | None:
    """The SPDX name of a licence's text where it is one of the common ones."""
    plain = " ".join(text[:20_000].lower().split())
    for name, phrases in _LICENSE_PHRASES:
        if all(phrase in plain for phrase in phrases):
            return name
    return None
