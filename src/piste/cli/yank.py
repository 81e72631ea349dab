"""`piste yank` and `unyank`: withdraw a release, and take that back."""

from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.arguments import parse_release
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.wire.releases import Yank

Name = Annotated[str, Parameter(name="ORG/PROJECT/=VERSION", help="One exact release.")]


def yank(
    name: Name,
    /,
    *,
    reason: Annotated[str | None, Parameter(help="Shown to those who ask for it.")] = None,
    security: Annotated[
        bool, Parameter(negative="", help="Also end what hosts may read of it at this moment.")
    ] = False,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Withdraw a release: no range chooses it any more, and asking for it by name says why.

    Hosts that run it keep running it, and move on with the next release.

    For example:

        piste yank acme/web/=1.4.0 --reason "does not start without a network"
    """
    organization, project, version = parse_release(name)
    with connect(hub, token_file) as client:
        release = client.yank(organization, project, version, Yank(reason, security))
    if as_json:
        show.data(release)
    else:
        show.say(f"{release.organization}/{release.project} {release.version} is yanked.")


def unyank(name: Name, /, *, hub: Hub = None, token_file: TokenFile = None) -> None:
    """Take a withdrawal back: ranges choose the release again.

    For example:

        piste unyank acme/web/=1.4.0
    """
    organization, project, version = parse_release(name)
    with connect(hub, token_file) as client:
        client.unyank(organization, project, version)
    show.say(f"{organization}/{project} {version} is no longer yanked.")
