"""`piste project`: look at projects, and change who sees them."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_project, parse_release
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.lib.errors import UsageError
from piste.wire.releases import NewProject, Project, ProjectChange

app = App(
    name="project",
    help="""Show and change projects.

    For example:

        piste project list acme

        piste project visibility acme/web public
    """,
)

Name = Annotated[str, Parameter(name="ORG/PROJECT", help="The project.")]
Visibility = Annotated[
    Literal["public", "unlisted", "private"],
    Parameter(help="public: everybody; unlisted: who knows the name; private: members."),
]


@app.command
def create(
    name: Name,
    /,
    *,
    visibility: Visibility = "private",
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Create a project. `piste publish` does so by itself where it needs one."""
    organization, project = parse_project(name)
    with connect(hub, token_file) as client:
        made = client.create_project(organization, NewProject(project, visibility))
    _show_one(made, as_json)


@app.command(name="list")
def list_all(
    organization: Annotated[str | None, Parameter(name="ORG", help="Only this organization's.")] = None,
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List the projects that you may see."""
    filters = {"organization": organization} if organization else {}
    with connect(hub, token_file) as client:
        found = client.projects(**filters)
    if as_json:
        show.data(found)
    else:
        table(found)


@app.command(name="show")
def show_one(name: Name, /, *, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show what is known of a project."""
    organization, project = parse_project(name)
    with connect(hub, token_file) as client:
        _show_one(client.project(organization, project), as_json)


@app.command
def visibility(
    name: Name,
    visibility: Annotated[Literal["public", "unlisted", "private"], Parameter(name="VISIBILITY")],
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Change who sees a project: everybody, those who know its name, or members."""
    organization, project = parse_project(name)
    with connect(hub, token_file) as client:
        changed = client.change_project(organization, project, ProjectChange(visibility))
    _show_one(changed, as_json)


@app.command
def delete(
    name: Annotated[
        str, Parameter(name="ORG/PROJECT", help="The project, or one release: ORG/PROJECT/=VERSION.")
    ],
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", help="Do it; without this nothing is deleted.")] = False,
    hub: Hub = None,
    token_file: TokenFile = None,
) -> None:
    """Delete a project with all its releases, or one release. Hosts that follow it get no more updates.

    A deleted version is not given out again, and locks that name it can't be used any more. To withdraw a
    release and keep what has it locked alive, use `piste yank`.
    """
    if name.count("/") > 1:
        _delete_release(name, yes=yes, hub=hub, token_file=token_file)
        return
    organization, project = parse_project(name)
    with connect(hub, token_file) as client:
        if not yes:
            count = len(client.releases(organization, project))
            raise UsageError(
                "not-confirmed",
                f"This would delete {name} and its {count} releases for good.",
                hint="Give --yes to do it. To withdraw one release, use `piste yank`.",
            )
        client.delete_project(organization, project)
    show.say(f"{name} is deleted.")


def _delete_release(name: str, *, yes: bool, hub: str | None, token_file: Path | None) -> None:
    organization, project, version = parse_release(name)
    if not yes:
        raise UsageError(
            "not-confirmed",
            f"This would delete release {version} of {organization}/{project} for good.",
            hint="Give --yes to do it. To withdraw it and keep what has it locked alive, use `piste yank`.",
        )
    with connect(hub, token_file) as client:
        client.delete_release(organization, project, version)
    show.say(f"{organization}/{project} {version} is deleted.")


def table(projects: list[Project]) -> None:
    """Projects as a table; other verbs list them the same way."""
    rows = [
        (
            f"{project.organization}/{project.name}",
            project.latest_version,
            project.visibility,
            project.description,
        )
        for project in projects
    ]
    show.table(("project", "latest", "visibility", "description"), rows)


def _show_one(project: Project, as_json: bool) -> None:
    if as_json:
        show.data(project)
        return
    show.fields(
        {
            "project": f"{project.organization}/{project.name}",
            "visibility": project.visibility,
            "latest": project.latest_version,
            "description": project.description,
            "labels": ", ".join(project.labels) or None,
            "created": show.moment(project.created_at),
        }
    )
