"""Options that several verbs share, and what they stand for: the hub's client, the store.

Nothing heavy is imported here: every command waits for it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from piste.client.api import HubClient
    from piste.nixcmd.store import Store

Hub = Annotated[
    str | None, Parameter(name="--hub", env_var="PISTE_HUB", help="Address of the hub, https://….")
]
TokenFile = Annotated[
    Path | None,
    Parameter(
        name="--token-file",
        help="File that holds the token; else PISTE_TOKEN, PISTE_TOKEN_FILE, or what `piste login` stored.",
    ),
]
Json = Annotated[
    bool, Parameter(name="--json", negative="", help="Print the result as JSON on standard output.")
]
StoreUrl = Annotated[
    str,
    Parameter(name="--store", env_var="PISTE_STORE", help="Nix store to act on, such as `local?root=DIR`."),
]
Root = Annotated[
    Path,
    Parameter(name="--root", env_var="PISTE_ROOT", help="Root under which profiles and state live."),
]


def connect(hub: str | None, token_file: Path | None) -> "HubClient":
    """The client for the hub and the credential that hold for this command."""
    from piste.client.api import HubClient
    from piste.client.credentials import find_credential

    return HubClient(find_credential(hub, token_file))


def open_store(url: str) -> "Store":
    """The Nix store that `--store` names."""
    from piste.nixcmd.store import Store

    return Store.parse(url)
