"""`piste requirement`: which versions a requirement allows."""

import sys
from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.arguments import parse_project
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.lib.errors import UsageError
from piste.semver.requirement import Requirement, RequirementError
from piste.semver.version import Version, VersionError


def requirement(
    text: Annotated[str, Parameter(name="REQ", help="The requirement, such as '>=1, <3'.")],
    /,
    *versions: Annotated[str, Parameter(name="VERSION", help="Versions to try; else from standard input.")],
    project: Annotated[str | None, Parameter(help="Try the releases of ORG/PROJECT.")] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show which versions a requirement allows.

    The grammar is Cargo's: `0.1` and `^0.1` stay below 0.2, `~1.2` below 1.3, `=1.2.3` is that one,
    `*` is any; commas mean "and". Pre-releases match only where one of the same version is named.

    For example:

        piste requirement '^0.1' 0.1.5 0.2.0

        git tag | piste requirement '>=1, <3'
    """
    try:
        wanted = Requirement.parse(text)
    except RequirementError as error:
        raise UsageError("bad-requirement", f"{error}.") from error
    if project is not None:
        organization, name = parse_project(project)
        with connect(hub, token_file) as client:
            candidates = [release.version for release in client.releases(organization, name)]
    else:
        candidates = list(versions) or _from_input()
    rows = [(candidate, wanted.matches(_parse(candidate))) for candidate in candidates]
    if as_json:
        show.data([{"version": version, "matches": matches} for version, matches in rows])
        return
    show.table(("version", "matches"), [(version, "yes" if yes else "no") for version, yes in rows])


def _from_input() -> list[str]:
    if sys.stdin.isatty():
        raise UsageError("usage", "No versions were given.", hint="Name them, or give --project ORG/PROJECT.")
    return sys.stdin.read().split()


def _parse(text: str) -> Version:
    try:
        return Version.parse(text.removeprefix("v"))
    except VersionError as error:
        raise UsageError("bad-version", f"{error}.") from error
