"""`piste fetch`: a released output and its closure come into the store."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.options import Hub, Json, Root, StoreUrl, TokenFile, connect
from piste.cli.watching import ShownWatcher
from piste.host.fetch import Fetching
from piste.host.journal import Journal
from piste.host.place import Host
from piste.host.records import Kind
from piste.host.resolve import read_reference
from piste.host.stopwatch import Stopwatch


def fetch(
    reference: Annotated[str, Parameter(name="REF", help="ORG/PROJECT/REQUIREMENT#ATTRIBUTE")],
    link: Annotated[Path, Parameter(name="LINK", help="Where the root against garbage collection is put.")],
    /,
    *,
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    root: Root = Path("/"),
    as_json: Json = False,
) -> None:
    """Fetch a released output and its closure into the store.

    Only what the store lacks is downloaded; Nix checks every path's signature and hash. LINK points to the
    output afterwards, and keeps it from the garbage collector. A fetch that broke off goes on where it was.

    For example:

        piste fetch acme/web/0.1#packages.x86_64-linux.default ./result
    """
    seconds, watcher, host = Stopwatch(), ShownWatcher(), Host.at(store, root)
    with connect(hub, token_file) as client, Fetching(client, host, watcher, seconds) as fetching:
        named = read_reference(reference, client.url)
        fetching.check(link)
        past = Journal(host.state_folder(Kind.NIXOS)).deployments()
        authorised = fetching.authorise(named, Kind.NIXOS, past)
        fetched = fetching.bring(authorised, fetching.plan_if_possible(authorised), link)
    if as_json:
        names = ("store_path", "paths_fetched", "bytes_received", "bytes_full")
        show.data({name: getattr(fetched, name) for name in names} | {"seconds": seconds.read()})
    else:
        show.line(fetched.store_path)
        show.say(f"{fetched.paths_fetched} paths fetched, {show.size(fetched.bytes_received)} received.")
