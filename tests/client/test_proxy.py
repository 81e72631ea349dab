"""Proxies come from the usual variables, and TLS goes through them to the hub itself."""

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from piste.client.proxy import proxy_for
from tests.hub.process import Hub
from tests.running.command import Person


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_variables_everything_is_reached_directly() -> None:
    assert proxy_for("https://hub.example.org") is None


def test_the_variables_are_followed_and_this_machine_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "internal.example.org,.lan")
    assert proxy_for("https://hub.example.org/x?a=b") == "http://proxy.example.org:3128"
    assert proxy_for("https://internal.example.org") is None
    assert proxy_for("https://hub.lan") is None
    assert proxy_for("https://127.0.0.1:8443") is None
    assert proxy_for("http://hub.example.org") is None


@pytest.fixture
def tls_hub(tmp_path: Path) -> Iterator[tuple[Hub, Path]]:
    """A hub that speaks TLS under a name that only a proxy can find, and its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=hub", "-addext", "subjectAltName=DNS:hub.example.org,IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *files], check=True, stderr=subprocess.DEVNULL)
    hub = Hub(tmp_path / "hub", options=("--tls-cert", str(certificate), "--tls-key", str(key)))
    try:
        yield hub.start(), certificate
    finally:
        hub.close()


@contextmanager
def tunnelling(target: tuple[str, int]) -> Iterator[tuple[str, list[str]]]:
    """A proxy that connects whoever asks to `target`; its address, and what it was asked for."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[str] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either side may go first
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def run() -> None:
        client, _ = listener.accept()
        asked.append(client.recv(65536).decode().splitlines()[0])
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(target) as server, client:
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join(10)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()


def test_a_hub_with_tls_is_reached_with_its_certificate_and_not_without(
    tls_hub: tuple[Hub, Path], tmp_path: Path
) -> None:
    hub, certificate = tls_hub
    person = Person(tmp_path / "person", hub.url, hub.admin, extra={"SSL_CERT_FILE": str(certificate)})
    assert person.succeed("status", "--json").json["logged_in"]
    stranger = Person(tmp_path / "stranger", hub.url, hub.admin)
    done = stranger.piste("status", "--json")
    assert (done.code, done.problem["ref"]) == (4, "hub-certificate")


def test_tls_goes_through_a_proxy_to_the_hub_itself(tls_hub: tuple[Hub, Path], tmp_path: Path) -> None:
    hub, certificate = tls_hub
    port = int(hub.url.rpartition(":")[2])
    with tunnelling(("127.0.0.1", port)) as (proxy, asked):
        extra = {"SSL_CERT_FILE": str(certificate), "https_proxy": proxy}
        person = Person(tmp_path / "person", f"https://hub.example.org:{port}", hub.admin, extra=extra)
        assert person.succeed("status", "--json").json["logged_in"]
    assert asked[0].startswith(f"CONNECT hub.example.org:{port} HTTP/1.")
