"""`piste apply`: a released configuration comes to life on this machine."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from piste.cli.options import Hub, Json, Root, StoreUrl, TokenFile
from piste.cli.outcome import show_outcome
from piste.cli.watching import ShownWatcher
from piste.client.credentials import find_credential
from piste.host.engine import Request
from piste.host.engine import apply as bring
from piste.host.place import Host
from piste.host.records import Action, Kind

KindName = Annotated[Kind, Parameter(name="KIND", help="What is activated.")]


def apply(
    kind: KindName,
    reference: Annotated[
        str,
        Parameter(
            name="REF", help="ORG/PROJECT/REQUIREMENT[#ATTRIBUTE]; the attribute of this host by default."
        ),
    ],
    action: Annotated[Action, Parameter(name="ACTION", help="As nixos-rebuild has them.")] = Action.SWITCH,
    /,
    *,
    verify: Annotated[
        bool,
        Parameter(
            name="--verify", negative="--no-verify", help="Require that the hub can be reached afterwards."
        ),
    ] = True,
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    root: Root = Path("/"),
    as_json: Json = False,
) -> int:
    """Bring a released configuration to life on this machine.

    Nothing is evaluated or built here: the reference is resolved by the hub, its closure is fetched into the
    store, and its own activation is run. `switch` tests the new configuration first, then makes it what
    boots; when anything goes wrong, what ran before runs again, and the exit code is 3.

    Without `#`, the attribute is nixosConfigurations.HOSTNAME, homeConfigurations.USER or
    darwinConfigurations.HOSTNAME.

    For example:

        piste apply nixos acme/web/1#nixosConfigurations.web

        piste apply nixos acme/web/=1.4.0#nixosConfigurations.web boot

        piste apply home-manager acme/dotfiles
    """
    credential = find_credential(hub, token_file)
    request = Request(kind, reference, action, verify)
    return show_outcome(bring(Host.at(store, root), credential, request, ShownWatcher()), as_json)
