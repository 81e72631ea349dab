"""A binary cache of somebody else, over TLS, on loopback. It tells what it was asked for."""

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from piste.nix.hashes import sha256_of
from piste.nix.narinfo import NarInfo, PathInfo, format_narinfo
from piste.nix.signature import SecretKey
from tests.identities.openid import Certificate
from tests.running.closures import Member


@dataclass
class Upstream:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    key: SecretKey = field(default_factory=lambda: SecretKey.generate("upstream-1"))

    def hold(self, paths: Sequence[Member], key: SecretKey | None = None) -> None:
        """From now on it has these, uncompressed."""
        for path in paths:
            info = PathInfo(path.path, path.nar_hash, len(path.nar), path.references)
            signed = info.with_signatures([(key or self.key).sign(info.fingerprint())])
            name = f"nar/{path.nar_hash.base32}.nar"
            narinfo = NarInfo(signed, name, "none", sha256_of(path.nar), len(path.nar))
            self.files[f"/{path.path.hash_part}.narinfo"] = format_narinfo(narinfo).encode()
            self.files[f"/{name}"] = path.nar


@contextmanager
def running_upstream(certificate: Certificate) -> Iterator[Upstream]:
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            upstream.asked.append(self.path)
            body = upstream.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    upstream.url = f"https://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
