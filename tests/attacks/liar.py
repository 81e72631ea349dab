"""A hub that lies: a proxy before an honest one that changes some of the answers."""

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Given the path that was asked for and the honest body: the body that is sent instead.
Lie = Callable[[str, bytes], bytes]
# Given the path that was asked for: the path that the honest hub is asked for.
Detour = Callable[[str], str]
# Given the path that was asked for: the byte of the file at which each answer breaks off; None: none does.
Cut = Callable[[str], int | None]

_RANGE = re.compile(r"bytes ([0-9]+)-")
_PASSED_ON = ("Authorization", "Accept", "Range", "If-Range", "If-None-Match", "Content-Type")
_PASSED_BACK = ("Content-Type", "ETag", "Accept-Ranges", "Content-Range", "Location", "Cache-Control")


@dataclass
class Liar:
    """The proxy. Without a lie it is honest, but for its own address in place of the hub's."""

    hub: str
    url: str = ""
    lie: Lie = field(default=lambda path, body: body)
    detour: Detour = field(default=lambda path: path)
    cut: Cut = field(default=lambda path: None)
    asked: list[str] = field(default_factory=list)

    def honest(self) -> None:
        self.lie = lambda path, body: body
        self.detour = lambda path: path
        self.cut = lambda path: None
        self.asked.clear()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Ask the honest hub, and hand its answer on."""
        self.asked.append(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else None
        headers = {name: handler.headers[name] for name in _PASSED_ON if name in handler.headers}
        connection = http.client.HTTPConnection(urlsplit(self.hub).netloc, timeout=30)
        try:
            connection.request(handler.command, self.detour(handler.path), body, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        data = self.lie(handler.path, data.replace(self.hub.encode(), self.url.encode()))
        handler.send_response(response.status)
        for name in _PASSED_BACK:
            if (value := response.headers.get(name)) is not None:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if (end := self.cut(handler.path)) is not None:
            handler.close_connection = True
            start = _RANGE.match(response.headers.get("Content-Range") or "")
            data = data[: max(0, end - (int(start[1]) if start else 0))]
        handler.wfile.write(data)


@contextmanager
def running_liar(hub: str) -> Iterator[Liar]:
    """A proxy on loopback, for as long as the block lasts."""
    liar = Liar(hub)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            liar.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            return

    for method in ("HEAD", "POST", "PUT"):
        setattr(Handler, f"do_{method}", Handler.do_GET)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    liar.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield liar
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
