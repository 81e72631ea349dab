"""`piste publish`: from a flake's folder to a release."""

import os
import secrets
from dataclasses import asdict
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

Name = Annotated[str, Parameter(help="ORG/PROJECT that the release belongs to.")]
ReleaseVersion = Annotated[str | None, Parameter(name="--version", help="SemVer, such as 1.4.0.")]
Rolling = Annotated[
    bool, Parameter(negative="", help="Version 0.MINOR.COMMITS+rev-REVISION, from the git history.")
]
Minor = Annotated[int, Parameter(help="Minor number of rolling versions.")]
Visibility = Annotated[
    Literal["public", "unlisted", "private"] | None,
    Parameter(help="What the project is, or becomes if it is new (then private by default)."),
]
Attributes = Annotated[
    list[str] | None,
    Parameter(
        name="--attribute",
        negative="",
        help="Output that must be complete; repeatable. Without it: all that this machine can build.",
    ),
]
NoBuild = Annotated[
    bool, Parameter(negative="", help="Build nothing: take outputs that are in the store already.")
]
AllowSource = Annotated[
    bool, Parameter(negative="", help="Publish even if the flake's own source is in a closure.")
]
SkipBroken = Annotated[
    bool, Parameter(negative="", help="Leave out outputs that do not evaluate, with a warning.")
]
Stage = Annotated[
    str | None, Parameter(help="Fill a release together with other machines under this name; no end yet.")
]
Finish = Annotated[str | None, Parameter(help="As --stage, and then make the release visible.")]
Labels = Annotated[
    list[str] | None, Parameter(name="--label", negative="", help="Label of the project; repeatable.")
]
License = Annotated[str | None, Parameter(help="SPDX expression, such as Apache-2.0.")]
Connections = Annotated[int, Parameter(help="Uploads at once.", show=False)]


def publish(
    folder: Annotated[Path, Parameter(name="DIR", help="The flake's folder.")] = Path(),
    /,
    *,
    name: Name,
    version: ReleaseVersion = None,
    rolling: Rolling = False,
    minor: Minor = 1,
    visibility: Visibility = None,
    attribute: Attributes = None,
    no_build: NoBuild = False,
    allow_source: AllowSource = False,
    skip_broken: SkipBroken = False,
    stage: Stage = None,
    finish: Finish = None,
    label: Labels = None,
    license: License = None,
    connections: Connections = 4,
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
    organization, project = parse_project(name)
    if (version is None) == (not rolling):
        raise UsageError("usage", "Give either --version V or --rolling.")
    if stage is not None and finish is not None:
        raise UsageError("usage", "--stage and --finish exclude each other; --finish stages, too.")
    wish = Wish(
        folder,
        organization,
        project,
        version=version,
        rolling_minor=minor,
        visibility=visibility,
        attributes=tuple(read_attribute(text) for text in attribute or []),
        build=not no_build,
        allow_source=allow_source,
        skip_broken=skip_broken,
        stage=stage or finish,
        finish=stage is None,
        labels=tuple(label or []),
        license=license,
        connections=connections,
    )
    with connect(hub, token_file) as client:
        outcome = publish_flake(client, open_store(store), wish, show.progress())
    _tell_workflow(outcome)
    if as_json:
        show.data(asdict(outcome))
    else:
        _show(outcome)


def _show(outcome: Outcome) -> None:
    total = show.duration(sum(outcome.seconds.values()))
    show.say(
        f"Uploaded {outcome.paths_uploaded} paths ({show.size(outcome.bytes_uploaded)}); "
        f"{outcome.paths_present} were there or are pinned. {total}."
    )
    if outcome.release_id is None:
        show.say(f"Staged {len(outcome.outputs)} outputs of {outcome.flake_name} {outcome.flake_version}.")
        return
    show.say(f"Released {len(outcome.outputs)} outputs of {outcome.flake_name} {outcome.flake_version}.")
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
