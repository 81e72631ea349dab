"""`nix-store --realise` from a cache, with a token for this one command."""

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from piste.lib.files import write_secret
from piste.nixcmd.command import run
from piste.nixcmd.store import Store

_COPIED: Final = re.compile(r"^copying path '", re.MULTILINE)


def substitute(
    store: Store,
    path: str,
    cache_url: str,
    token: str | None,
    link: Path,
    *,
    settings: Mapping[str, str],
    on_line: Callable[[str], None] | None = None,
) -> int:
    """Bring a path and its closure from the cache and make `link` its root; how many paths came.

    The token is in a file that lasts as long as the command. A path that is missing in the cache is an error,
    since nothing is built.
    """
    with tempfile.TemporaryDirectory(prefix="piste-") as folder:
        netrc = Path(folder) / "netrc"
        host = urlsplit(cache_url).hostname
        line = f"machine {host} login piste password {token}\n" if token else ""
        write_secret(netrc, line.encode())
        asked = {
            **settings,
            "substituters": cache_url,
            "netrc-file": str(netrc),
            # What was not there an hour ago may be there now.
            "narinfo-cache-negative-ttl": "0",
        }
        argv = ["nix-store", "--realise", path, "--add-root", str(link)]
        return len(_COPIED.findall(run(store, argv, settings=asked, on_stderr=on_line).stderr))
