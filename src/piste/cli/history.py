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
    # What came back runs since its latest deployment, not since its first.
    latest = next((one for one in deployments if running is not None and one.store_path == running), None)
    headings = ("when", "result", "generation", "version", "reference", "store path", "")
    show.table(headings, (_row(one, runs=one is latest) for one in deployments))


def _row(one: Deployment, *, runs: bool) -> tuple[str | None, ...]:
    generation = str(one.generation) if one.generation is not None else None
    result = one.result or one.state
    note = "runs now" if runs else one.reason
    when = show.moment(one.started_at)
    return when, result.value, generation, one.version, one.reference, one.store_path, note
