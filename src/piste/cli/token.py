"""`piste token`: create, list, rotate and revoke tokens."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_duration, parse_project, read_attribute
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.client.api import HubClient
from piste.lib.errors import PisteError, UsageError
from piste.nix.flake_ref import format_attribute_path
from piste.wire.tokens import CreatedToken, NewToken, RotateToken, Token

app = App(
    name="token",
    help="""Create, list, rotate and revoke tokens.

    For example, for a host that may run one configuration and read nothing else:

        piste token create --kind resolve-only --org acme --project acme/web \\
            --requirement 1 --attribute nixosConfigurations.web --description web-1
    """,
)

Org = Annotated[str, Parameter(name="--org", help="The organization that the token belongs to.")]


@app.command
def create(
    *,
    kind: Annotated[Literal["user", "device", "resolve-only"], Parameter(help="What it may do.")],
    org: Org,
    description: Annotated[str, Parameter(help="What it is for; shown in lists.")],
    project: Annotated[
        str | None, Parameter(help="ORG/PROJECT that a resolve-only token is bound to.")
    ] = None,
    requirement: Annotated[str | None, Parameter(help="Versions that it may resolve.")] = None,
    attribute: Annotated[str | None, Parameter(help="The one output that it may resolve.")] = None,
    min_version: Annotated[str | None, Parameter(help="No version below this one.")] = None,
    expires: Annotated[
        str | None, Parameter(help="How long it holds, such as 30d; else 90d, a resolve-only token a year.")
    ] = None,
    person: Annotated[str | None, Parameter(help="For whom a user token is; else for you.")] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Create a token and print it, this once. The hub keeps only its hash.

    `user` may what the person may; `device` reads the organization's projects and caches; `resolve-only`
    resolves one output of one project under one requirement, and reads that closure, nothing else.

    For example:

        piste token create --kind user --org acme --description CI --expires 90d

        piste token create --kind resolve-only --org acme --project acme/web \\
            --requirement 1 --attribute nixosConfigurations.web --description web-1
    """
    bound = {"--project": project, "--requirement": requirement, "--attribute": attribute}
    if kind == "resolve-only":
        absent = [name for name, value in bound.items() if value is None]
        if absent:
            raise UsageError("usage", f"A resolve-only token needs {', '.join(absent)}.")
    elif given := [name for name, value in {**bound, "--min-version": min_version}.items() if value]:
        raise UsageError("usage", f"{', '.join(given)} belong to resolve-only tokens.")
    wanted = NewToken(
        kind=kind,
        description=description,
        expires_in=parse_duration(expires) if expires else None,
        person=person,
        project=_project_of(org, project) if project else None,
        requirement=requirement,
        attribute=format_attribute_path(read_attribute(attribute)) if attribute else None,
        minimum_version=min_version,
    )
    with connect(hub, token_file) as client:
        made = client.create_token(org, wanted)
    _show_created(made, as_json)


@app.command(name="list")
def list_all(*, org: Org, hub: Hub = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List an organization's tokens; the tokens themselves are known to nobody."""
    with connect(hub, token_file) as client:
        found = client.tokens(org)
    if as_json:
        show.data(found)
        return
    rows = [
        (
            token.id,
            token.kind,
            _binding(token.project, token.requirement, token.attribute) or token.person,
            _end(token),
            _last_use(token),
            token.description,
        )
        for token in found
    ]
    show.table(("id", "kind", "for", "expires", "last used", "description"), rows)


@app.command
def revoke(
    token: Annotated[str, Parameter(name="ID", help="As `piste token list` shows it.")],
    /,
    *,
    org: Annotated[
        str | None, Parameter(name="--org", help="Where it belongs; else it is looked for.")
    ] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
) -> None:
    """Revoke a token. What it has resolved before can be read for no more than a second."""
    _check_id(token)
    with connect(hub, token_file) as client:
        client.revoke_token(org or _find(client, token), token)
    show.say(f"The token {token} is revoked.")


@app.command
def rotate(
    token: Annotated[str, Parameter(name="ID", help="As `piste token list` shows it.")],
    /,
    *,
    org: Annotated[
        str | None, Parameter(name="--org", help="Where it belongs; else it is looked for.")
    ] = None,
    overlap: Annotated[
        str, Parameter(help="How long the old one goes on: 24h; `0` ends it at once.")
    ] = "24h",
    expires: Annotated[str | None, Parameter(help="How long the new one holds; else as the old one.")] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Make a token in place of another, with the same rights. The old one goes on for the overlap.

    For example:

        piste token rotate 019a… --overlap 7d
    """
    _check_id(token)
    wanted = RotateToken(
        overlap=0 if overlap == "0" else parse_duration(overlap),
        expires_in=parse_duration(expires) if expires else None,
    )
    with connect(hub, token_file) as client:
        made = client.rotate_token(org or _find(client, token), token, wanted)
    _show_created(made, as_json)


def _check_id(token: str) -> None:
    if token.startswith("piste_"):
        raise UsageError(
            "token-in-argument",
            "This is a token itself; its id is what is needed.",
            hint="`piste token list --org ORG` shows the ids.",
        )


def _end(token: Token) -> str | None:
    if token.revoked_at:
        return "revoked"
    end = show.moment(token.expires_at)
    return f"{end} (replaced)" if token.replaced_by and end else end


def _last_use(token: Token) -> str | None:
    """When, from where, and what the client called itself."""
    parts = [show.moment(token.last_used_at), token.last_used_address, token.last_used_host]
    return " ".join(part for part in parts if part) or None


def _find(client: HubClient, token: str) -> str:
    """The organization that a token belongs to, among those of the caller."""
    for organization in client.status().organizations:
        try:
            if any(known.id == token for known in client.tokens(organization)):
                return organization
        except PisteError as error:
            if error.ref not in ("forbidden", "not-found"):
                raise
    raise PisteError("not-found", f"No organization of yours has a token {token}.", hint="Give --org ORG.")


def _project_of(organization: str, text: str) -> str:
    """The project's name, after a check that it is the organization's."""
    owner, project = parse_project(text)
    if owner.lower() != organization.lower():
        raise UsageError("usage", f"{text} does not belong to {organization}.")
    return project


def _show_created(made: CreatedToken, as_json: bool) -> None:
    if as_json:
        names = ("id", "token", "kind", "organization", "project", "requirement", "attribute", "description")
        more = ("expires_at", "minimum_version", "allowed_versions")
        show.data({name: getattr(made, name) for name in (*names, *more)})
        return
    show.line(made.token)
    show.say(f"The token {made.id} is shown this once. It expires {show.moment(made.expires_at) or 'never'}.")
    if made.kind == "resolve-only":
        allowed = ", ".join(made.allowed_versions[:10]) or "none yet"
        show.say(f"It reads {made.attribute}; published versions that it allows: {allowed}.")


def _binding(project: str | None, requirement: str | None, attribute: str | None) -> str | None:
    return f"{project}/{requirement}#{attribute}" if project else None
