"""`piste cache`: put paths into a project's cache, and look at what it holds of one."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators

from piste.cli import show
from piste.cli.arguments import parse_project, read_store_path
from piste.cli.options import Hub, Json, StoreUrl, TokenFile, connect, open_store
from piste.client.address import segments
from piste.lib.errors import PisteError, UsageError
from piste.nix.narinfo import NarInfo, NarInfoError, parse_narinfo
from piste.nix.store_path import StorePath, StorePathError

app = App(
    name="cache",
    help="""Push paths to a project's cache, and look into it.

    For example:

        piste cache push ./result --name acme/web
    """,
)

app.command("piste.cli.cache_watch:watch", name="watch", help="Push what Nix builds, as it is built.")
app.command("piste.cli.cache_watch:drain", name="drain", help="Wait until all that was built is pushed.")
app.command("piste.cli.cache_watch:hook", name="hook", help="Make the queue that Nix's builds go to.")


@app.command
def push(
    *paths: Annotated[str, Parameter(name="PATH", help="Store paths, or links to them.")],
    name: Annotated[str, Parameter(help="ORG/PROJECT.")],
    signing_key_file: Annotated[
        tuple[Path, ...],
        Parameter(
            negative="",
            help="File with a secret key, where the organization does not leave its keys with the hub.",
        ),
    ] = (),
    connections: Annotated[
        int, Parameter(help="Uploads at the same time.", validator=validators.Number(gte=1, lte=32))
    ] = 4,
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    as_json: Json = False,
) -> None:
    """Push store paths with their closures, apart from any release.

    What the cache has is not sent again, and what an upstream of the organization has is left there. The
    paths join the cache all at once, or not at all.

    For example:

        piste cache push /nix/store/…-tool --name acme/web
    """
    from piste.nixcmd.daemon import Daemon
    from piste.publisher.push import PushWish
    from piste.publisher.push import push as push_paths
    from piste.publisher.sign_in import sign_in_to_push
    from piste.publisher.signing import read_signing_keys

    organization, project = parse_project(name)
    if not paths:
        raise UsageError("usage", "No path was given.")
    roots = tuple(dict.fromkeys(read_store_path(path) for path in paths))
    keys = read_signing_keys(signing_key_file, show.warn)
    wish = PushWish(organization, project, roots, connections, keys)
    with connect(hub, token_file) as client:
        sign_in_to_push(client)
        with Daemon(open_store(store)) as daemon:
            pushed = push_paths(client, daemon, wish, show.progress())
        url = client.url + segments("cache", organization, project)
    if as_json:
        show.data({"cache_url": url, **asdict(pushed)})
        return
    show.say(
        f"{name}: pushed {pushed.paths_uploaded} paths ({show.size(pushed.bytes_uploaded)}); "
        f"{pushed.paths_present} were there, {pushed.paths_pinned} are left to upstreams. "
        f"{show.duration(sum(pushed.seconds.values()))}."
    )


@app.command
def info(
    path: Annotated[str, Parameter(name="PATH", help="A store path.")],
    /,
    *,
    name: Annotated[str | None, Parameter(help="ORG/PROJECT; else all that you may read.")] = None,
    hub: Hub = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show what the cache knows of a store path: sizes, references, signatures.

    For example:

        piste cache info /nix/store/…-web --name acme/web
    """
    try:
        store_path = StorePath.parse(path)
    except StorePathError as error:
        raise UsageError("bad-path", f"{error}.") from error
    place = ("cache", *parse_project(name)) if name else ()
    with connect(hub, token_file) as client:
        try:
            text = client.request("GET", (*place, f"{store_path.hash_part}.narinfo")).decode()
        except PisteError as error:
            if error.ref in ("not-found", "bad-answer"):
                raise PisteError(
                    "not-found", f"The cache holds nothing that you may read of {path}."
                ) from error
            raise
    try:
        narinfo = parse_narinfo(text)
    except NarInfoError as error:
        raise PisteError("bad-answer", f"The cache's answer can't be read: {error}.") from error
    _show(narinfo, as_json)


def _show(narinfo: NarInfo, as_json: bool) -> None:
    known = narinfo.info
    answer = {
        "store_path": str(known.path),
        "nar_hash": known.nar_hash.nix32(),
        "nar_size": known.nar_size,
        "compression": narinfo.compression,
        "file_size": narinfo.file_size,
        "url": narinfo.url,
        "references": [str(reference) for reference in known.references],
        "deriver": str(known.deriver) if known.deriver else None,
        "signatures": list(known.signatures),
    }
    if as_json:
        show.data(answer)
        return
    shown = {key: value if isinstance(value, list) else str(value) for key, value in answer.items() if value}
    show.fields(shown)
