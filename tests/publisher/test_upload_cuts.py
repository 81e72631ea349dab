"""A large upload over a line that is cut again and again goes on where it was."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from piste.cli.show import PlainProgress
from piste.client.address import parse_address
from piste.client.api import HubClient, push_path
from piste.client.credentials import Credential
from piste.lib.retry import Backoff
from piste.nix.store_path import StorePath
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.store import Store
from piste.publisher import signing, upload
from piste.wire.publication import Declaration
from tests.hub.process import Hub
from tests.running.command import Person
from tests.running.nix import build
from tests.running.tenants import Tenant

CUTS = 8


class Cutting:
    """Passes connections on, and cuts the first ones after some bytes; counts what the client sent."""

    def __init__(self, hub: Hub, after: int) -> None:
        self._target = int(hub.listen.rpartition(":")[2])
        self._after = after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cuts = 0
        self.read = 0
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            hub = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass, args=(hub, client, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(client, hub, self._after), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(16 * 1024):
                passed += len(data)
                if limit is not None:
                    self.read += len(data)
                    if passed > limit and self.cuts < CUTS:
                        self.cuts += 1
                        break
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.fixture
def line(tenant: Tenant) -> Iterator[Cutting]:
    made = Cutting(tenant.hub, 1_100_000)
    yield made
    made.close()


def test_what_has_arrived_is_not_sent_again(publisher: Person, tenant: Tenant, line: Cutting) -> None:
    size = 12_000_000
    built = build(publisher, "", f'run "large" "head -c {size} /dev/urandom > $out; : {os.urandom(8).hex()}"')
    path = StorePath.parse(built)
    client = HubClient(Credential(parse_address(line.url), tenant.token), backoff=Backoff(10, 0.01))
    with Daemon(Store.parse(publisher.store)) as daemon:
        infos = list(daemon.closure([path]).values())
        opened = client.open_push(
            tenant.organization, "web", Declaration([signing.described(info) for info in infos])
        )
        place = upload.Place(
            client, push_path(tenant.organization, "web", opened.id), part=64 * 1024, whole=1_000_000
        )
        sent = upload.upload(place, daemon, infos, PlainProgress(), connections=4)
        assert client.finish_push(tenant.organization, "web", opened.id).paths == 1
    assert sent > size
    assert line.cuts == CUTS
    assert line.read < sent * 1.1
