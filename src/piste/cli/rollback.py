"""`piste rollback`: back to what this machine ran before."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from piste.cli.options import Json, Root, StoreUrl
from piste.cli.outcome import show_outcome
from piste.cli.watching import ShownWatcher
from piste.host.place import Host
from piste.host.records import Kind
from piste.host.rollback import roll_back


def rollback(
    kind: Annotated[Kind, Parameter(name="KIND", help="What is rolled back.")] = Kind.NIXOS,
    /,
    *,
    to: Annotated[
        str | None,
        Parameter(name="--to", help="GENERATION or STORE_PATH; else the generation before this one."),
    ] = None,
    store: StoreUrl = "auto",
    root: Root = Path("/"),
    as_json: Json = False,
) -> int:
    """Go back to what this machine ran before.

    No hub is asked: what ran before is in the store. It is tested before it is what boots, like any release.

    For example:

        piste rollback

        piste rollback --to 41
    """
    return show_outcome(roll_back(Host.at(store, root), kind, to, ShownWatcher()), as_json)
