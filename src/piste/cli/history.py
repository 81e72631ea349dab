"""`piste history`: what was deployed on this machine."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.options import Json, Root, StoreUrl
from piste.host.journal import Journal
from piste.host.place import Host
from piste.host.records import Deployment, Kind


def history(
    kind: Annotated[Kind, Parameter(name="KIND", help="Whose history.")] = Kind.NIXOS,
    /,
    *,
    store: StoreUrl = "auto",
    root: Root = Path("/"),
    as_json: Json = False,
) -> None:
    """List what was deployed on this machine, newest first.

    For example:

        piste history

        piste history --json | jq '.[0]'
    """
    host = Host.at(store, root)
    deployments = Journal(host.state_folder(kind)).deployments()
    if as_json:
        show.data(deployments)
        return
    running = host.running(kind)
    headings = ("when", "result", "generation", "reference", "store path", "")
    show.table(headings, (_row(one, running) for one in deployments))


def _row(one: Deployment, running: str | None) -> tuple[str | None, ...]:
    generation = str(one.generation) if one.generation is not None else None
    result = one.result or one.state
    mark = "runs now" if one.store_path is not None and one.store_path == running else ""
    return show.moment(one.started_at), result.value, generation, one.reference, one.store_path, mark
