"""A server that misbehaves on purpose: what a real hub does only when a network or a machine fails."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.identities.openid import Certificate

Behaviour = Callable[[BaseHTTPRequestHandler, int], None]


class Misbehaving(ThreadingHTTPServer):
    """Calls `behaviour` with each request and its number, from 1 on."""

    daemon_threads = True

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        scheme = "https" if isinstance(self.socket, ssl.SSLSocket) else "http"
        return f"{scheme}://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        server = self.server
        assert isinstance(server, Misbehaving)
        with server.lock:
            server.seen.append((self.command, self.path, dict(self.headers)))
            number = len(server.seen)
        server.behaviour(self, number)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # the base class looks for one method a verb
            return self.handle_any
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        return


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """A whole answer."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection where it is."""
    handler.close_connection = True
    handler.connection.shutdown(2)


@contextmanager
def serving(behaviour: Behaviour, certificate: Certificate | None = None) -> Iterator[Misbehaving]:
    """By TLS where there is a certificate."""
    server = Misbehaving(behaviour)
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.file, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
