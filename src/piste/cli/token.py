"""`piste token`: create, list, rotate and revoke tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from piste.cli import show, token_table
from piste.cli.arguments import parse_duration, parse_project, read_attribute
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.client.api import HubClient
from piste.lib.errors import PisteError, UsageError
from piste.nix.flake_ref import format_attribute_path
from piste.wire.tokens import CreatedToken, NewToken, NewTokens, RotateToken, Token

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
    description: Annotated[str | None, Parameter(help="What it is for; shown in lists.")] = None,
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
    file: Annotated[
        Path | None, Parameter(name="--from", help="Make one resolve-only token for each line of a table.")
    ] = None,
    output_dir: Annotated[
        Path | None, Parameter(help="Write each token of --from to a file of its own there, 0600.")
    ] = None,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Show which published versions it would allow, and make nothing.")
    ] = False,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Create a token and print it, this once. The hub keeps only its hash.

    `user` may what the person may; `device` reads the organization's projects and caches; `resolve-only`
    resolves one output of one project under one requirement, and reads that closure, nothing else.

    A table for --from has names in its first line, of description, project, requirement, attribute,
    min_version and expires, and one token a line, with commas or tabs; what it leaves out is taken from the
    options. All of its tokens are made, or none.

    For example:

        piste token create --kind user --org acme --description CI --expires 90d

        piste token create --kind resolve-only --org acme --project acme/web \\
            --requirement 1 --attribute nixosConfigurations.web --description web-1

        piste token create --kind resolve-only --org acme --project acme/web \\
            --requirement 1 --from hosts.csv --output-dir tokens
    """
    said = token_table.Columns(
        description=description,
        project=project,
        requirement=requirement,
        attribute=attribute,
        min_version=min_version,
        expires=expires,
    )
    _check_options(kind, said, dry_run=dry_run, many=file is not None, folder=output_dir)
    if file is not None:
        made = token_table.read(file, said)
        with connect(hub, token_file) as client:
            _create_many(client, org, made, output_dir, dry_run=dry_run, as_json=as_json)
        return
    wanted = _wanted(kind, org, said, person)
    with connect(hub, token_file) as client:
        if kind == "resolve-only":
            (planned,) = client.create_tokens(org, NewTokens([wanted], dry_run=True))
            # Before there is a token: what it is about to open.
            show.say(_allowance(planned))
            if dry_run:
                _show_planned([planned], as_json)
                return
        _show_created(client.create_token(org, wanted), as_json)


def _check_options(
    kind: str, said: token_table.Columns, *, dry_run: bool, many: bool, folder: Path | None
) -> None:
    """Which options belong together."""
    bound = {"--project": said.project, "--requirement": said.requirement, "--attribute": said.attribute}
    if kind != "resolve-only":
        given = [name for name, value in {**bound, "--min-version": said.min_version}.items() if value]
        given += [name for name, value in {"--from": many, "--dry-run": dry_run}.items() if value]
        if given:
            raise UsageError("usage", f"{', '.join(given)} belong to resolve-only tokens.")
    elif not many and (absent := [name for name, value in bound.items() if value is None]):
        raise UsageError("usage", f"A resolve-only token needs {', '.join(absent)}.")
    if said.description is None and not many:
        raise UsageError("usage", "A token needs a --description.")
    if folder is not None and not many:
        raise UsageError("usage", "--output-dir belongs to --from.")


def _wanted(kind: str, org: str, said: token_table.Columns, person: str | None) -> NewToken:
    return NewToken(
        kind=kind,
        description=said.description or "",
        expires_in=parse_duration(said.expires) if said.expires else None,
        person=person,
        project=_project_of(org, said.project) if said.project else None,
        requirement=said.requirement,
        attribute=format_attribute_path(read_attribute(said.attribute)) if said.attribute else None,
        minimum_version=said.min_version,
    )


def _create_many(
    client: HubClient,
    org: str,
    lines: Sequence[token_table.Line],
    folder: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    wanted = [
        token_table.at_line(line, lambda said: _wanted("resolve-only", org, said, None)) for line in lines
    ]
    place = token_table.Folder(folder, [each.description for each in wanted]) if folder is not None else None
    try:
        made = client.create_tokens(org, NewTokens(wanted, dry_run=dry_run))
    except PisteError as error:
        raise token_table.named(error, lines) from error
    for each in made:
        if not each.allowed_versions:
            show.warn(f"{each.description}: {_allowance(each)}")
    if dry_run:
        _show_planned(made, as_json)
        return
    if place is not None:
        try:
            place.write({each.description: each.token for each in made})
        except OSError as error:
            for each in made:
                client.revoke_token(org, each.id)
            raise token_table.not_written(error) from error
    for each in made:
        show.event(_described(each, without_token=place is not None))
    show.say(f"{len(made)} tokens are made" + (f", each in a file of {folder}." if place else "."))


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
        show.data(_described(made))
        return
    show.line(made.token)
    show.say(f"The token {made.id} is shown this once. It expires {show.moment(made.expires_at) or 'never'}.")


def _described(made: CreatedToken, *, without_token: bool = False) -> dict[str, object]:
    names = ("id", "token", "kind", "organization", "project", "requirement", "attribute", "description")
    more = ("expires_at", "minimum_version", "allowed_versions")
    return {name: getattr(made, name) for name in (*names, *more) if not (without_token and name == "token")}


def _show_planned(planned: Sequence[CreatedToken], as_json: bool) -> None:
    if as_json:
        for each in planned:
            described = _described(each, without_token=True)
            del described["id"]
            show.event(described)
        return
    rows = [
        (
            each.description,
            _binding(each.project, each.requirement, each.attribute),
            show.moment(each.expires_at),
            ", ".join(each.allowed_versions),
        )
        for each in planned
    ]
    show.table(("description", "for", "expires", "allowed versions"), rows)


def _allowance(made: CreatedToken) -> str:
    allowed = ", ".join(made.allowed_versions[:10]) or "none yet"
    return f"Published versions that {made.requirement} allows: {allowed}."


def _binding(project: str | None, requirement: str | None, attribute: str | None) -> str | None:
    return f"{project}/{requirement}#{attribute}" if project else None
