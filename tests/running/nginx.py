"""A real nginx with the configuration that is shipped, on loopback, where Debian's package can be had."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks._peers import command
from tests.hub.process import wait_for
from tests.running.command import ROOT

SHIPPED: Final = ROOT / "examples" / "nginx"
HUB_OPTIONS: Final = ("--trusted-proxy", "127.0.0.1", "--accel-redirect", "/_piste/objects/")
_STARTS: Final = 10.0
_MAIN: Final = """\
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  default_type application/octet-stream; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {http}
  server {{ listen 127.0.0.1:{port} reuseport; {server} }}
}}
"""


@contextmanager
def shipped_nginx(
    folder: Path, hub_port: int, objects: Path, wrap: "list[str] | None" = None
) -> Iterator[int | None]:
    """Its port; None where there is no nginx. The shipped files as they are, but for places and the hub's
    port."""
    program = command("usr/sbin/nginx")
    if program is None:
        yield None
        return
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    http = (SHIPPED / "piste-http.conf").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{hub_port}")
    server = (SHIPPED / "piste-server.conf").read_text()
    server = server.replace("/var/lib/piste-hub/objects", str(objects))
    server = server.replace("/var/log/nginx", str(folder))
    config = folder / "nginx.conf"
    config.write_text(_MAIN.format(folder=folder, port=port, http=http, server=server))
    with (folder / "said").open("ab") as said:
        argv = [*(wrap or []), *program, "-p", str(folder), "-c", str(config)]
        process = subprocess.Popen(argv, stderr=said)
    try:
        wait_for(lambda: _answers(port) or process.poll() is not None, _STARTS)
        if process.poll() is not None:
            raise RuntimeError((folder / "said").read_text() + (folder / "error.log").read_text())
        yield port
    finally:
        process.terminate()
        process.wait(_STARTS)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
