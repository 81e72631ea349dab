"""`piste list`: what there is on the hub, as far as the caller may see it."""

from typing import Annotated

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_project, parse_versioned
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.cli.project import table
from piste.wire.releases import Release

app = App(
    name="list",
    help="""List projects, organizations, releases, versions, outputs.

    For example:

        piste list releases acme/web

        piste list outputs acme/web/1.4
    """,
)

Project = Annotated[str, Parameter(name="ORG/PROJECT", help="The project.")]


@app.command
def flakes(
    *,
    org: Annotated[str | None, Parameter(name="--org", help="Only this organization's.")] = None,
    label: Annotated[str | None, Parameter(help="Only those with this label.")] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List the projects that you may see."""
    filters = {name: value for name, value in (("organization", org), ("label", label)) if value}
    with connect(hub, token_file) as client:
        found = client.projects(**filters)
    if as_json:
        show.data(found)
    else:
        table(found)


@app.command
def orgs(*, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List the organizations that you may see."""
    with connect(hub, token_file) as client:
        found = client.organizations()
    if as_json:
        show.data(found)
    else:
        show.table(("organization",), [(organization.name,) for organization in found])


@app.command
def releases(
    name: Project,
    /,
    *,
    limit: Annotated[int | None, Parameter(help="At most so many.")] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List a project's releases, the highest version first."""
    organization, project = parse_project(name)
    with connect(hub, token_file) as client:
        found = client.releases(organization, project, limit)
    _show_releases(found, as_json)


@app.command
def versions(
    name: Project,
    requirement: Annotated[str, Parameter(name="REQUIREMENT", help="Such as '0.1' or '>=1, <3'.")] = "*",
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List the releases that a requirement allows, the highest version first."""
    organization, project = parse_project(name)
    with connect(hub, token_file) as client:
        found = client.versions(organization, project, requirement)
    _show_releases(found, as_json)


@app.command
def outputs(
    name: Annotated[
        str, Parameter(name="ORG/PROJECT/REQUIREMENT", help="The release; ORG/PROJECT for the newest.")
    ],
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List the outputs of a release; `recorded` ones are not complete in the cache."""
    organization, project, requirement = parse_versioned(name, default="*")
    with connect(hub, token_file) as client:
        found = client.release(organization, project, requirement)
    if as_json:
        show.data(found.outputs)
        return
    rows = [
        (output.attribute, output.system, "available" if output.available else "recorded", output.store_path)
        for output in found.outputs
    ]
    show.table(("output", "system", "state", "store path"), rows)


def _show_releases(found: list[Release], as_json: bool) -> None:
    if as_json:
        show.data(found)
        return
    rows = [
        (
            release.version,
            show.moment(release.published_at),
            "yanked" if release.yanked_at else "",
            release.yank_reason or "",
        )
        for release in found
    ]
    show.table(("version", "published", "state", "reason"), [[v or " " for v in row] for row in rows])
