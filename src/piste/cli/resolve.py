"""`piste resolve`: a reference to a store path, with one request."""

from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.arguments import read_reference
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.lib.errors import UsageError


def resolve(
    reference: Annotated[str, Parameter(name="REF", help="ORG/PROJECT/REQUIREMENT#ATTRIBUTE")],
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Print the store path of a reference.

    Nothing is downloaded. The highest version that the requirement allows is chosen; a yanked one is
    not, even where it is named exactly.

    For example:

        piste resolve acme/web/0.1#nixosConfigurations.web

        piste resolve --json 'acme/web/>=1, <3#packages.x86_64-linux.default'
    """
    with connect(hub, token_file) as client:
        named = read_reference(reference, client.url)
        if named.attribute_path is None:
            raise UsageError(
                "bad-reference",
                f"{reference!r} names no output.",
                hint="Put it after a #, for example acme/web/0.1#nixosConfigurations.web; "
                f"`piste list outputs {named.organization}/{named.project}` lists them.",
            )
        found = client.resolve(named.organization, named.project, named.requirement, named.attribute_path)
    if as_json:
        names = ("reference", "organization", "project", "requirement", "version")
        chosen = {name: getattr(found, name) for name in (*names, "attribute_path", "store_path")}
        show.data(chosen)
    else:
        show.line(found.store_path)
