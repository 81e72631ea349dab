"""An issuer of identities over TLS on loopback: its discovery document, its keys, and whatever it is asked to
sign. For tests that need identities and no OpenID server of somebody else's.
"""

import json
import secrets
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from tests.identities.openid import Certificate


class Issuer:
    """Serves until it is closed; `localhost` has to be allowed to whoever reads its keys."""

    def __init__(self, certificate: Certificate) -> None:
        self._key = ECKey.generate_key("P-256", {"kid": "first", "use": "sig", "alg": "ES256"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.file, certificate.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.issuer = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def mint(self, *, age: int = 0, life: int = 300, **claims: Any) -> str:
        """An identity that was given `age` seconds ago."""
        given = int(time.time()) - age
        said = {
            "iss": self.issuer,
            "aud": "127.0.0.1",
            "iat": given,
            "exp": given + life,
            "jti": secrets.token_hex(8),
            **claims,
        }
        return jwt.encode({"alg": "ES256", "kid": "first", "typ": "JWT"}, said, self._key)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {
                    "/.well-known/openid-configuration": {
                        "issuer": issuer.issuer,
                        "jwks_uri": f"{issuer.issuer}/keys",
                    },
                    "/keys": {"keys": [issuer._key.as_dict(private=False)]},
                }
                found = documents.get(self.path)
                body = json.dumps(found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        return Handler
