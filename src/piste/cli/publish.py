"""`piste publish`: from a flake's folder to a release."""

import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from piste.cli import show
from piste.cli.arguments import parse_project, read_attribute
from piste.cli.options import Hub, Json, StoreUrl, TokenFile, connect, open_store
from piste.lib.errors import UsageError
from piste.publisher.records import Outcome, Wish
from piste.publisher.release import publish as publish_flake


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `piste publish` can be told, beside where the hub and the store are."""

    name: Annotated[str, Parameter(help="ORG/PROJECT that the release belongs to.")]
    version: Annotated[str | None, Parameter(help="SemVer, such as 1.4.0.")] = None
    rolling: Annotated[
        bool, Parameter(negative="", help="Version 0.MINOR.COMMITS+rev-REVISION, from the git history.")
    ] = False
    minor: Annotated[int, Parameter(help="Minor number of rolling versions.")] = 1
    visibility: Annotated[
        Literal["public", "unlisted", "private"] | None,
        Parameter(help="What the project is, or becomes if it is new (then private by default)."),
    ] = None
    attribute: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Output that must be complete; repeatable. Without it: all that this machine can build.",
        ),
    ] = ()
    no_build: Annotated[
        bool, Parameter(negative="", help="Build nothing: take outputs that are in the store already.")
    ] = False
    allow_source: Annotated[
        bool, Parameter(negative="", help="Publish even if the flake's own source is in a closure.")
    ] = False
    skip_broken: Annotated[
        bool, Parameter(negative="", help="Leave out outputs that do not evaluate, with a warning.")
    ] = False
    stage: Annotated[
        str | None,
        Parameter(help="Fill a release together with other machines under this name; no end yet."),
    ] = None
    finish: Annotated[str | None, Parameter(help="As --stage, and then make the release visible.")] = None
    label: Annotated[tuple[str, ...], Parameter(negative="", help="Label of the project; repeatable.")] = ()
    license: Annotated[str | None, Parameter(help="SPDX expression, such as Apache-2.0.")] = None
    connections: Annotated[int, Parameter(help="Uploads at once.", show=False)] = 4


def publish(
    folder: Annotated[Path, Parameter(name="DIR", help="The flake's folder.")] = Path(),
    /,
    *,
    options: Annotated[Options, Parameter(name="*")],
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    as_json: Json = False,
) -> None:
    """Build a flake's outputs, push their closures, and make them a release.

    Every output of the standard kinds is recorded: packages, devShells, checks, apps, formatter,
    nixosConfigurations, darwinConfigurations, homeConfigurations. Those that this machine can build are
    built and pushed, or only those of --attribute. The release becomes visible at the very end,
    complete, or not at all. The same content may be published again; other content under the same
    version is refused.

    For example:

        piste publish --name acme/web --version 1.4.0

        piste publish --name acme/web --rolling --attribute nixosConfigurations.web

        piste publish --name acme/web --rolling --stage run-7    # on one machine

        piste publish --name acme/web --rolling --finish run-7   # on the last one
    """
    wish = _wish(folder, options)
    with connect(hub, token_file) as client:
        outcome = publish_flake(client, open_store(store), wish, show.progress())
    _tell_workflow(outcome)
    if as_json:
        show.data(asdict(outcome))
    else:
        _show(outcome)


def _wish(folder: Path, options: Options) -> Wish:
    organization, project = parse_project(options.name)
    if (options.version is None) == (not options.rolling):
        raise UsageError("usage", "Give either --version V or --rolling.")
    if options.stage is not None and options.finish is not None:
        raise UsageError("usage", "--stage and --finish exclude each other; --finish stages, too.")
    if "" in (options.stage, options.finish):
        # A variable of a workflow that is not set; without a name nobody could finish what is staged.
        raise UsageError(
            "bad-name",
            "The name of the stage is empty.",
            hint="Give one that the machines share, such as the number of the workflow's run.",
        )
    return Wish(
        folder,
        organization,
        project,
        version=options.version,
        rolling_minor=options.minor,
        visibility=options.visibility,
        attributes=tuple(read_attribute(text) for text in options.attribute),
        build=not options.no_build,
        allow_source=options.allow_source,
        skip_broken=options.skip_broken,
        stage=options.stage or options.finish,
        finish=options.stage is None,
        labels=options.label,
        license=options.license,
        connections=options.connections,
    )


def _show(outcome: Outcome) -> None:
    total = show.duration(sum(outcome.seconds.values()))
    show.say(
        f"Uploaded {outcome.paths_uploaded} paths ({show.size(outcome.bytes_uploaded)}); "
        f"{outcome.paths_present} were there or are pinned. {total}."
    )
    release = f"{outcome.flake_name} {outcome.flake_version}"
    if outcome.release_id is None:
        show.say(f"Staged for {release}; outputs: {len(outcome.outputs)}.")
        return
    if outcome.created:
        show.say(f"Released {release}; outputs: {len(outcome.outputs)}.")
    else:
        show.say(f"{release} was published before, with this same content.")
    show.line(outcome.flakeref_exact or "")


def _tell_workflow(outcome: Outcome) -> None:
    """Hand the same names to the steps that follow in a GitHub workflow."""
    place = os.environ.get("GITHUB_OUTPUT")
    if not place:
        return
    lines = []
    for name, value in asdict(outcome).items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        text = "" if value is None else text
        # A delimiter that nobody can guess: what a publisher wrote can't end a value and begin another.
        end = f"end-{secrets.token_hex(16)}"
        lines.append(f"{name}<<{end}\n{text}\n{end}\n")
    with Path(place).open("a") as file:
        file.write("".join(lines))
