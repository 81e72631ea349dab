"""`piste cache`: what a project's cache holds of a path."""

from typing import Annotated

from cyclopts import App, Parameter

from piste.cli import show
from piste.cli.arguments import parse_project
from piste.cli.options import Hub, Json, TokenFile, connect
from piste.lib.errors import PisteError, UsageError
from piste.nix.narinfo import NarInfoError, parse_narinfo
from piste.nix.store_path import StorePath, StorePathError

app = App(name="cache", help="Look into a project's cache.")


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
    single = {key: str(value) for key, value in answer.items() if value and not isinstance(value, list)}
    show.fields(single)
    for reference in known.references:
        show.fields({"reference": str(reference)})
    for signature in known.signatures:
        show.fields({"signature": signature})
