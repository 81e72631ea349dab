"""`piste search`: find projects."""

from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.cli.project import table


def search(
    *words: Annotated[str, Parameter(name="QUERY", help="Part of a name, a description or a label.")],
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Find projects by name, description or label, among those that you may see.

    For example:

        piste search web server
    """
    with connect(hub, token_file) as client:
        found = client.projects(query=" ".join(words))
    if as_json:
        show.data(found)
        return
    table(found)
    if not found:
        show.say("Nothing was found.")
