"""What others serve files with, and measure with: nginx and wrk, from Debian's packages, in the cache.

They run by the loader and the libraries that came with them, so nothing is installed. Where they can't be had
there is None, and a benchmark says so.
"""

import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks._cpu import CpuGroup, cpu_group
from tests.hub.process import wait_for
from tests.identities.openid import Certificate
from tools.provision.apt import private_apt
from tools.provision.place import CACHE, SetupError, run, say
from tools.provision.portable_nix import STABLE_SUITE

_ROOT: Final = CACHE / "bench" / STABLE_SUITE
_PACKAGES: Final = ("nginx", "wrk")
_STARTS: Final = 10.0

_CONFIGURATION: Final = """\
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log {folder}/access.log combined buffer=64k flush=1s;
  sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type text/plain;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  open_file_cache max=4000 inactive=60s;
  server {{
    listen 127.0.0.1:{port} reuseport; root {files};
    location /nar/ {{ tcp_nopush {nopush}; }}
    location = /status {{ stub_status; }}
  }}
  {tls}
}}
"""


@dataclass(frozen=True)
class Peer:
    """A server of plain files."""

    name: str
    port: int
    cpu: CpuGroup
    tls_port: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> int:
        """How many it has answered, this question included."""
        with urllib.request.urlopen(f"{self.url}/status", timeout=_STARTS) as answer:
            return int(answer.read().splitlines()[2].split()[2])

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"


@contextmanager
def nginx(
    folder: Path, files: Path, certificate: Certificate | None = None, *, large_nars: bool = False
) -> Iterator[Peer | None]:
    """One nginx process that serves `files`, with a certificate also by TLS; `folder` is for what it needs
    itself. Over loopback large NARs take less of the processor without tcp_nopush, and small ones more: it
    gets what suits it better."""
    program = command("usr/sbin/nginx")
    if program is None:
        yield None
        return
    folder.mkdir()
    port, tls_port, tls = free_port(), None, ""
    if certificate is not None:
        tls_port = free_port()
        tls = tls_server(tls_port, certificate, f"root {files};")
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIGURATION.format(
            folder=folder, files=files, port=port, tls=tls, nopush="off" if large_nars else "on"
        )
    )
    with cpu_group() as cpu:
        with (folder / "log").open("ab") as log:
            argv = cpu.joining([*program, "-p", str(folder), "-c", str(config)])
            process = subprocess.Popen(argv, stderr=log)
        cpu.add(process.pid)
        yield from _serve(process, Peer("nginx", port, cpu, tls_port), folder / "log")


def tls_server(port: int, certificate: Certificate, inside: str) -> str:
    """The server block of an nginx that speaks TLS there, with nginx's own choice of everything."""
    return (
        f"server {{ listen 127.0.0.1:{port} ssl reuseport; ssl_certificate {certificate.file};"
        f" ssl_certificate_key {certificate.key}; {inside} }}"
    )


def free_port() -> int:
    """One that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _serve(process: "subprocess.Popen[bytes]", peer: Peer, log: Path) -> Iterator[Peer]:
    try:
        wait_for(lambda: _answers(peer.port) or process.poll() is not None, _STARTS)
        if process.poll() is not None:
            raise SystemExit(f"{peer.name} did not start:\n{log.read_text()}")
        yield peer
    finally:
        process.terminate()
        process.wait(_STARTS)


@cache
def command(program: str, *packages: str) -> list[str] | None:
    """How a program of these packages, else of nginx and wrk, is started; None where it can't be had."""
    root = _ROOT.with_name("-".join((STABLE_SUITE, *packages)))
    packages = packages or _PACKAGES
    stamp = root / "done"
    try:
        if not stamp.exists():
            _unpack(root, packages)
            stamp.touch()
    except SetupError as error:
        say(f"No {' and no '.join(packages)}: {error}")
        return None
    library = next(root.glob("usr/lib/*-linux-gnu"))
    loader = next(library.glob("ld-linux-*"))
    return [str(loader), "--library-path", str(library), str(root / program)]


def _unpack(root: Path, packages: Sequence[str]) -> None:
    say(f"  {' and '.join(packages)} of Debian {STABLE_SUITE}, to compare with …")
    work = root.with_name(f"new-{root.name}")
    shutil.rmtree(work, ignore_errors=True)
    apt = private_apt(STABLE_SUITE, work)
    apt.update()
    for archive in apt.download(*packages):
        run(["dpkg", "-x", archive, root])
    shutil.rmtree(work)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
