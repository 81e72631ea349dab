"""A hub behind the shipped nginx, and behind the shipped Caddy."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from tests.hub.process import Hub
from tests.running.caddy import shipped_caddy
from tests.running.closures import Member, make_closure, publish
from tests.running.nginx import hub_options, shipped_nginx
from tests.running.tenants import Tenant, make_tenant

PROXIES: Final = {"caddy": shipped_caddy, "nginx": shipped_nginx}


@dataclass(frozen=True)
class Behind:
    """A private project of a hub, the hub as clients see it, and the hub itself."""

    tenant: Tenant
    members: list[Member]
    through: Hub  # asks by the proxy
    direct: Hub
    log: Path


@pytest.fixture(scope="module", params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest) -> str:
    """The name of one of them."""
    name: str = request.param
    return name


@contextmanager
def shipped(proxy: str, folder: Path, proxy_socket: Path, objects: Path) -> Iterator[int]:
    """The port of a proxy; skips where there is none."""
    with PROXIES[proxy](folder, proxy_socket, objects) as port:
        if port is None:
            pytest.skip(f"{proxy} can't be had here")
        yield port


@pytest.fixture(scope="module")
def behind(proxy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("behind")
    proxy_socket = folder / "proxy.sock"
    hub = Hub(folder / "hub", options=hub_options(proxy_socket))
    try:
        hub.start()
        with shipped(proxy, folder / proxy, proxy_socket, hub.data / "objects") as port:
            tenant, members = make_tenant(hub, "acme", "web"), make_closure(5, paths=3, size=900_000)
            with tenant.client() as client:
                publish(client, "acme", "web", "1.0.0", members)
            through = replace(hub, url=f"http://127.0.0.1:{port}", _process=None, lines=[])
            yield Behind(replace(tenant, hub=through), members, through, hub, folder / proxy / "piste.log")
    finally:
        hub.close()


@contextmanager
def echo(at: Path) -> Iterator[None]:
    """A server on a Unix socket that answers each request with its own head."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(at))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                    head += piece
                length = b"content-length: %d\r\n" % len(head)
                connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + length + b"\r\n" + head)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
