"""`piste cache`: put paths into a project's cache, and look at what it holds of one."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_project
from piste.cli.options import Hub, Json, StoreUrl, TokenFile, connect, open_store
from piste.client.address import segments
from piste.client.credentials import find_credential
from piste.lib.errors import AccessError, PisteError, UsageError
from piste.nix.narinfo import NarInfo, NarInfoError, parse_narinfo
from piste.nix.store_path import StorePath, StorePathError
from piste.nixcmd.copy import copy_to

app = App(
    name="cache",
    help="""Push paths to a project's cache, and look into it.

    For example:

        piste cache push ./result --name acme/web
    """,
)


@app.command
def push(
    *paths: Annotated[str, Parameter(name="PATH", help="Store paths, or links to them.")],
    name: Annotated[str, Parameter(help="ORG/PROJECT.")],
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    as_json: Json = False,
) -> None:
    """Push store paths with their closures, apart from any release, as `nix copy` does.

    For example:

        piste cache push /nix/store/…-tool --name acme/web
    """
    organization, project = parse_project(name)
    if not paths:
        raise UsageError("usage", "No path was given.")
    for path in paths:
        _check_path(path)
    credential = find_credential(hub, token_file)
    if credential.token is None:
        raise AccessError("credential-missing", "Pushing needs a token.", hint="Run `piste login`.")
    url = credential.hub + segments("cache", organization, project)
    copy_to(open_store(store), url, paths, credential.token, on_line=show.say)
    if as_json:
        show.data({"cache_url": url, "paths": list(paths)})
    else:
        show.say(f"{name} holds {', '.join(paths)}.")


def _check_path(text: str) -> None:
    """Nix would take anything else for a flake."""
    if Path(text).is_symlink():
        return
    try:
        # What lies within a store path names it, too.
        StorePath.parse("/".join(text.split("/")[:4]))
    except StorePathError as error:
        raise UsageError(
            "bad-path",
            f"{text!r} is neither a store path nor a link to one.",
            hint="For example ./result, which `nix build` leaves, or what `nix path-info` prints.",
        ) from error


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
