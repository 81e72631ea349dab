"""A real nginx with the configuration that is shipped, on loopback, where Debian's package can be had."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks._peers import command, free_port, tls_server
from tests.hub.process import wait_for
from tests.identities.openid import Certificate
from tests.running.command import ROOT

SHIPPED: Final = ROOT / "examples" / "nginx"
_STARTS: Final = 10.0
_MAIN: Final = """\
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  default_type application/octet-stream; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {http}
  {server}
}}
"""


def hub_options(proxy_socket: Path) -> tuple[str, ...]:
    """How a hub is started that nginx stands in front of."""
    return "--proxy-socket", str(proxy_socket), "--accel-redirect", "/_piste/objects/"


@contextmanager
def shipped_nginx(
    folder: Path,
    proxy_socket: Path,
    objects: Path,
    wrap: "list[str] | None" = None,
    certificate: Certificate | None = None,
) -> Iterator[int | None]:
    """Its port, which speaks TLS with a certificate; None where there is no nginx. The shipped files as they
    are, but for places."""
    program = command("usr/sbin/nginx")
    if program is None:
        yield None
        return
    folder.mkdir(parents=True)
    port = free_port()
    http = (SHIPPED / "piste-http.conf").read_text().replace("/run/piste-hub/proxy.sock", str(proxy_socket))
    server = (SHIPPED / "piste-server.conf").read_text()
    server = server.replace("/var/lib/piste-hub/objects", str(objects))
    server = server.replace("/var/log/nginx", str(folder))
    if certificate is not None:
        server = tls_server(port, certificate, server)
    else:
        server = f"server {{ listen 127.0.0.1:{port} reuseport; {server} }}"
    config = folder / "nginx.conf"
    config.write_text(_MAIN.format(folder=folder, http=http, server=server))
    with (folder / "said").open("ab") as said:
        argv = [*(wrap or []), *program, "-p", str(folder), "-c", str(config)]
        process = subprocess.Popen(argv, stderr=said)
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, _STARTS)
        if process.poll() is not None:
            raise RuntimeError((folder / "said").read_text() + (folder / "error.log").read_text())
        yield port
    finally:
        process.terminate()
        process.wait(_STARTS)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
