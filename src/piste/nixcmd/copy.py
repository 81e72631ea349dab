"""`nix copy` to a binary cache."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from piste.lib.files import write_secret
from piste.nixcmd.command import FEATURES, run
from piste.nixcmd.store import Store


def copy_to(
    store: Store,
    cache_url: str,
    paths: Sequence[str],
    token: str | None,
    *,
    signing_key_file: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Copy paths with their closures to a cache, signed with the key where one is given. The token is in a
    file that lasts as long as the command.
    """
    if signing_key_file is not None:
        cache_url += "?" + urlencode({"secret-key": str(signing_key_file.resolve())})
    with tempfile.TemporaryDirectory(prefix="piste-") as folder:
        netrc = Path(folder) / "netrc"
        host = urlsplit(cache_url).hostname
        line = f"machine {host} login piste password {token}\n" if token else ""
        write_secret(netrc, line.encode())
        argv = ["nix", *FEATURES, "copy", "--to", cache_url, *paths]
        run(store, argv, settings={"netrc-file": str(netrc)}, on_stderr=on_line)
