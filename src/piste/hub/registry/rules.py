"""What a project and a release may be called and say, and how they are addressed. Pure."""

from typing import Final
from urllib.parse import quote

from piste.hub.access.records import Project
from piste.hub.errors import HubError
from piste.hub.registry.records import ReleaseRow
from piste.nix.flake_ref import valid_name

VISIBILITIES: Final = ("public", "unlisted", "private")
LIST_LIMIT: Final = 1000
REASON_LIMIT: Final = 1000


def check_name(name: str) -> None:
    if not valid_name(name):
        raise HubError(
            "bad-name",
            f"{name[:100]!r} can't be the name of a project.",
            hint="Letters, digits, dots, dashes and underscores, at most 64, not beginning with a sign.",
        )


def check_visibility(visibility: str) -> None:
    if visibility not in VISIBILITIES:
        raise HubError(
            "bad-request",
            f"{visibility[:100]!r} is no visibility.",
            hint=f"One of {', '.join(VISIBILITIES)}.",
        )


def check_reason(reason: str | None) -> None:
    if reason is not None and (len(reason) > REASON_LIMIT or not reason.replace("\n", " ").isprintable()):
        raise HubError("bad-request", f"A reason has at most {REASON_LIMIT} characters.")


def parse_limit(text: str | None) -> int:
    """How many rows a list may have."""
    if text is None:
        return LIST_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 0 < int(text) <= LIST_LIMIT:
        raise HubError("bad-request", f"The limit is a number from 1 to {LIST_LIMIT}.")
    return int(text)


def pinned_url(public_url: str, project: Project, release: ReleaseRow) -> str:
    """The address of a release's source that never means another one."""
    version = quote(release.version, safe="")
    base = f"{public_url}/f/pinned/{project.organization_name}/{project.name}"
    return f"{base}/{version}/{release.id}/source.tar.gz"


def immutable_link(public_url: str, project: Project, release: ReleaseRow) -> str:
    """The `Link` header by which Nix locks an input, written exactly as Nix reads it."""
    attributes = [
        f"{name}={value}"
        for name, value in (("rev", release.revision), ("revCount", release.commit_count))
        if value is not None
    ]
    query = "?" + "&".join(attributes) if attributes else ""
    return f'<{pinned_url(public_url, project, release)}{query}>; rel="immutable"'


def agrees_with_search(text: str, project: Project, description: str | None, labels: list[str]) -> bool:
    """Whether every word of a search is found in the name, the description or the labels."""
    whole = f"{project.organization_name}/{project.name} {description or ''} {' '.join(labels)}".lower()
    return all(word in whole for word in text.lower().split())
