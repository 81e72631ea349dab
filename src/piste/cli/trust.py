"""`piste trust`: which identities of a CI may publish to a project."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_project
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.lib.errors import UsageError
from piste.wire.identities import NewTrust, Trust

app = App(
    name="trust",
    help="""Let a CI publish without a stored token, by the identity that it gives to each run.

    For example, for the protected branch main of one repository:

        piste trust add acme/web --preset github --repository acme/web --repository-id 123456
    """,
)

Name = Annotated[str, Parameter(name="ORG/PROJECT", help="The project; it need not exist yet.")]


@app.command
def add(
    name: Name,
    /,
    *,
    issuer: Annotated[str | None, Parameter(help="Address of the issuer; presets know theirs.")] = None,
    audience: Annotated[
        str | None, Parameter(help="For whom the identity must be made; else the hub's host name.")
    ] = None,
    claim: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="NAME=PATTERN, repeatable: every named claim must agree with one of its patterns. "
            "`*` stands for one or more characters other than `:` and `/`.",
        ),
    ] = (),
    preset: Annotated[
        Literal["github", "gitlab", "forgejo"] | None,
        Parameter(help="Bind repository, protected ref and events as that CI names them."),
    ] = None,
    repository: Annotated[str | None, Parameter(help="With a preset: OWNER/NAME.")] = None,
    repository_id: Annotated[
        str | None, Parameter(help="With a preset: its number, which no other repository ever has.")
    ] = None,
    ref: Annotated[
        tuple[str, ...],
        Parameter(negative="", help="With a preset: refs that may publish; refs/heads/main by default."),
    ] = (),
    environment: Annotated[str | None, Parameter(help="With a preset: the environment of the job.")] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Trust an identity to publish to a project, and to nothing else.

    A preset needs the repository and its number, and allows pushes, releases, schedules and runs started by
    hand, on a protected ref; never pull requests.
    """
    organization, project = parse_project(name)
    wanted = NewTrust(
        project=project,
        issuer=issuer,
        audience=audience,
        claims=_claims(claim),
        preset=preset,
        repository=repository,
        repository_id=repository_id,
        refs=list(ref),
        environment=environment,
    )
    with connect(hub, token_file) as client:
        added = client.add_trust(organization, wanted)
    if as_json:
        show.data(added)
        return
    show.line(added.id)
    show.fields({"issuer": added.issuer, "audience": added.audience, **_shown(added)})
    if added.pending:
        show.say(f"{name} does not exist yet: the first run that this trusts makes it.")


@app.command(name="list")
def list_all(
    name: Annotated[
        str, Parameter(name="ORG", help="An organization, or ORG/PROJECT for one of its projects.")
    ],
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List whom an organization's projects trust."""
    organization, project = parse_project(name) if "/" in name else (name, None)
    with connect(hub, token_file) as client:
        found = [
            rule
            for rule in client.trust(organization)
            if project is None or rule.project.lower() == project.lower()
        ]
    if as_json:
        show.data(found)
        return
    rows = [
        (
            rule.id,
            rule.project + (" (pending)" if rule.pending else ""),
            rule.issuer,
            rule.audience,
            " ".join(f"{claim}={'|'.join(patterns)}" for claim, patterns in rule.claims.items()),
        )
        for rule in found
    ]
    show.table(("id", "project", "issuer", "audience", "claims"), rows)


@app.command
def remove(
    name: Name,
    rule: Annotated[str, Parameter(name="ID", help="As `piste trust list` shows it.")],
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
) -> None:
    """Trust it no more. Publications that it has open end with it."""
    organization, project = parse_project(name)
    with connect(hub, token_file) as client:
        known = [each for each in client.trust(organization) if each.id == rule]
        if not known or known[0].project.lower() != project.lower():
            raise UsageError("not-found", f"{name} has no trust rule {rule}.")
        client.remove_trust(organization, rule)
    show.say(f"The rule {rule} of {name} is removed.")


def _claims(texts: tuple[str, ...]) -> dict[str, list[str]]:
    claims: dict[str, list[str]] = {}
    for text in texts:
        name, sign, pattern = text.partition("=")
        if not sign or not name or not pattern:
            raise UsageError(
                "usage", f"{text!r} is not NAME=PATTERN.", hint="For example --claim repository_id=123456."
            )
        claims.setdefault(name, []).append(pattern)
    return claims


def _shown(rule: Trust) -> dict[str, str | None]:
    return {name: " | ".join(patterns) for name, patterns in rule.claims.items()}
