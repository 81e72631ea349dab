"""A real Caddy with the configuration that is shipped, on loopback: Debian's, or the one that PISTE_CADDY
names."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks._peers import command, free_port
from tests.hub.process import wait_for
from tests.running.command import ROOT
from tests.running.nginx import listens

SHIPPED: Final = ROOT / "examples" / "caddy" / "Caddyfile"
_STARTS: Final = 20.0


@contextmanager
def shipped_caddy(
    folder: Path, proxy_socket: Path, objects: Path, wrap: "list[str] | None" = None
) -> Iterator[int | None]:
    """Its port; None where there is no Caddy. The shipped file as it is, but for places, and without TLS and
    what a second Caddy on this machine would be in the way of."""
    named = os.environ.get("PISTE_CADDY")
    program = [named] if named else command("usr/bin/caddy", "caddy")
    if program is None:
        yield None
        return
    folder.mkdir(parents=True)
    port = free_port()
    text = SHIPPED.read_text().replace("/run/piste-hub/proxy.sock", str(proxy_socket))
    text = text.replace("/var/lib/piste-hub/objects", str(objects))
    text = text.replace("/var/log/caddy", str(folder))
    text = text.replace("hub.example.org {", f"http://:{port} {{\n\tbind 127.0.0.1")
    config = folder / "Caddyfile"
    config.write_text(text.replace("{\n", "{\n\tadmin off\n", 1))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with (folder / "said").open("ab") as said:
        argv = [*(wrap or []), *program, "run", "--config", str(config), "--adapter", "caddyfile"]
        process = subprocess.Popen(argv, stderr=said, env=environment)
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, _STARTS)
        if process.poll() is not None:
            raise RuntimeError((folder / "said").read_text())
        yield port
    finally:
        process.terminate()
        process.wait(_STARTS)
