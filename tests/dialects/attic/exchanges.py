"""What Attic's clients send, byte for byte as far as it matters: raw request lines, headers as they spell
them, chunked bodies.

`Client` is magic-nix-cache's or attic's own; the one names a cache by ids, the other `ORG+PROJECT`.
"""

import base64
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.hub.process import Hub
from tests.running.closures import Member

THRESHOLD = 4096  # a description of so many bytes stands in the body
AGENT = "Attic/attic-client (none)"


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def exchange(hub: Hub, head: Sequence[str], body: bytes = b"") -> Reply:
    """One request whose head is these lines, on a connection of its own."""
    address = urlsplit(hub.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        lines = [head[0], f"host: {address.netloc}", *head[1:], "connection: close", "", ""]
        connection.sendall("\r\n".join(lines).encode() + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    top, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in top.lower():
        rest = _unchunked(rest)
    return Reply(int(top.split()[1]), rest)


def chunked(data: bytes, size: int = 65536) -> bytes:
    """A body as clients send it that do not know its length."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(f"{len(each):x}\r\n".encode() + each + b"\r\n" for each in pieces) + b"0\r\n\r\n"


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        whole, data = whole + data[:length], data[length + 2 :]
    return whole


def describe(cache: str, path: Member, **other: object) -> dict[str, object]:
    """A path in the words of Attic, all keys always present."""
    return {
        "cache": cache,
        "store_path_hash": path.path.hash_part,
        "store_path": str(path.path),
        "references": [each.base_name for each in path.references],
        "system": None,
        "deriver": None,
        "sigs": [],
        "ca": None,
        "nar_hash": f"sha256:{path.nar_hash.hex()}",
        "nar_size": len(path.nar),
        **other,
    }


@dataclass(frozen=True)
class Client:
    """One cache in the eyes of a client, with its token or identity."""

    hub: Hub
    cache: str
    token: str | None
    agent: bool = False  # attic's newer client names itself on every request, the others when they upload

    def config(self) -> Reply:
        return exchange(self.hub, [f"GET /_api/v1/cache-config/{self.cache} HTTP/1.1", *self._common()])

    def missing(self, hash_parts: Sequence[str]) -> Reply:
        body = json.dumps({"cache": self.cache, "store_path_hashes": list(hash_parts)}).encode()
        sent = ["content-type: application/json", *self._common(), f"content-length: {len(body)}"]
        return exchange(self.hub, ["POST /_api/v1/get-missing-paths HTTP/1.1", *sent], body)

    def upload(
        self,
        path: Member,
        *,
        nar: bytes | None = None,
        force_preamble: bool = False,
        said: Mapping[str, object] | None = None,
    ) -> Reply:
        """Metadata in a header, or before the NAR where it is long."""
        info = json.dumps(describe(self.cache, path, **(said or {})), separators=(",", ":")).encode()
        content = path.nar if nar is None else nar
        if force_preamble or len(info) >= THRESHOLD:
            about, content = f"x-attic-nar-info-preamble-size: {len(info)}", info + content
        else:
            about = f"x-attic-nar-info: {info.decode()}"
        # The agent's name comes with the request itself here, after the credential.
        sent = [*self._common(agent=False), f"user-agent: {AGENT}", about, "transfer-encoding: chunked"]
        return exchange(self.hub, ["PUT /_api/v1/upload-path HTTP/1.1", *sent], chunked(content))

    def push(self, closure: Sequence[Member]) -> list[str]:
        """Ask what is missing, and send that in no particular order; the hash parts that were."""
        missing: list[str] = self.missing([each.path.hash_part for each in closure]).json()["missing_paths"]
        for path in reversed(closure):
            if path.path.hash_part in missing:
                reply = self.upload(path)
                assert reply.status == 200, reply.body
        return missing

    def _common(self, *, agent: bool | None = None) -> list[str]:
        named = self.agent if agent is None else agent
        return [
            *([f"authorization: bearer {self.token}"] if self.token is not None else []),
            "accept: */*",
            *([f"user-agent: {AGENT}"] if named else []),
        ]


def ask_project(hub: Hub, token: str | None, name: str = "") -> Reply:
    """magic-nix-cache's first request: which organization, which project."""
    target = "/project" + (f"/{name}" if name else "")
    basic = base64.b64encode(f"flakehub:{token}".encode()).decode()
    sent = [f"authorization: Basic {basic}"] if token is not None else []
    return exchange(hub, [f"GET {target} HTTP/1.1", *sent, "user-agent: magic-nix-cache", "accept: */*"])


def cache_of(hub: Hub, token: str, name: str) -> str:
    """What FlakeHub Cache's client calls the cache of a project."""
    ids = ask_project(hub, token, name).json()
    return f"{ids['organization_uuid_v7']}:{ids['project_uuid_v7']}"
