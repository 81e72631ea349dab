"""What `flakehub-push` sends, request by request: the lines, headers and bodies in its own order and
spelling, and its way of packing a flake.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.hub.process import Hub

AGENT = "user-agent: flakehub-push"
REVISION = "1" * 40
FLAKE = b"{ outputs = _: { }; }\n"


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def exchange(hub: Hub, head: Sequence[str], body: bytes = b"") -> Reply:
    """One request whose head is these lines."""
    address = urlsplit(hub.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        lines = [*head, f"host: {address.netloc}", "connection: close", "", ""]
        connection.sendall("\r\n".join(lines).encode() + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    top, _, rest = answer.partition(b"\r\n\r\n")
    return Reply(int(top.split()[1]), rest)


def pack(files: Mapping[str, bytes | Path], *, time: int = 1_700_000_000, top: str = "abc-source") -> bytes:
    """A .tar.gz as the client's library makes it: GNU headers, each folder before what is in it, sorted by
    name, one time for all, nobody's.
    """
    buffer = io.BytesIO()
    folders = {top, *(f"{top}/{parent}" for name in files for parent in map(str, Path(name).parents))}
    names = {f"{top}/{name}": what for name, what in files.items()}
    with (
        gzip.GzipFile("", "wb", 6, buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name in sorted({*names, *(each.removesuffix("/.") for each in folders)}):
            entry = tarfile.TarInfo(name)
            entry.mtime = time
            what = names.get(name)
            if what is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            elif isinstance(what, Path) and what.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(what), 0o777
                archive.addfile(entry)
            else:
                data = what.read_bytes() if isinstance(what, Path) else what
                executable = isinstance(what, Path) and os.access(what, os.X_OK)
                entry.mode, entry.size = 0o755 if executable else 0o644, len(data)
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def leaf(out: str | None = None, system: str | None = None, **other: Any) -> dict[str, Any]:
    """A leaf of an inventory of version 1, all keys always present."""
    said = {
        "what": "package",
        "shortDescription": None,
        "outputs": {"out": out} if out is not None else None,
        "forSystems": [system] if system is not None else None,
        "derivation": None,
    }
    return said | other


def inventory(tree: Mapping[str, Any], version: int = 1) -> dict[str, Any]:
    """By output type, each a tree of leaves and further trees."""

    def grown(item: Any) -> Any:
        if not isinstance(item, Mapping) or {"what", "outputs"} & item.keys():
            return item
        return {"children": {name: grown(each) for name, each in item.items()}}

    kinds = {kind: grown(item) for kind, item in tree.items()}
    if version == 2:
        return {"version": 2, "inventory": {k: {"doc": "text", "output": v} for k, v in kinds.items()}}
    return {"version": 1, "docs": dict.fromkeys(tree, "text"), "inventory": kinds}


def metadata(name: str, **other: Any) -> dict[str, Any]:
    """The body of the stage request, all keys always present."""
    said: dict[str, Any] = {
        "commit_count": 7,
        "description": "A flake",
        "outputs": inventory({}),
        "raw_flake_metadata": {
            "locked": {"type": "git", "url": "file:///home/me/web"},
            "path": "/nix/store/x",
        },
        "readme": None,
        "repo": name,
        "revision": REVISION,
        "visibility": "public",
        "mirrored": False,
        "source_subdirectory": "",
        "spdx_identifier": None,
        "labels": ["web", "nix"],
    }
    return said | other


@dataclass
class Pusher:
    """One run of the client."""

    hub: Hub
    token: str | None
    name: str  # ORG/PROJECT
    version: str
    tarball: bytes = field(default_factory=lambda: pack({"flake.nix": FLAKE}))
    said: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    uuid: str = ""

    @property
    def digest(self) -> str:
        return base64.b64encode(hashlib.sha256(self.tarball).digest()).decode()

    def status(self) -> Reply:
        return exchange(self.hub, ["GET /token/status HTTP/1.1", *self._common()])

    def stage(
        self, *, length: int | None = None, digest: str | None = None, body: bytes | None = None
    ) -> Reply:
        size = len(self.tarball) if length is None else length
        target = f"/upload/{self.name}/{self.version}/{size}/{digest or self.digest}"
        content = json.dumps(metadata(self.name, **self.said)).encode() if body is None else body
        head = [f"POST {target} HTTP/1.1", *self._common(), f"content-length: {len(content)}"]
        reply = exchange(self.hub, head, content)
        if reply.status == 200:
            self.url, self.uuid = reply.json()["s3_upload_url"], reply.json()["uuid"]
        return reply

    def put(self, data: bytes | None = None, *, checksum: str | None = None, url: str | None = None) -> Reply:
        """Neither credential nor name of the client."""
        content = self.tarball if data is None else data
        target = (url or self.url).removeprefix(self.hub.url)
        head = [
            f"PUT {target} HTTP/1.1",
            f"content-length: {len(content)}",
            "content-type: application/gzip",
            f"x-amz-checksum-sha256: {checksum or self.digest}",
            "accept: */*",
        ]
        return exchange(self.hub, head, content)

    def publish(self, uuid: str | None = None) -> Reply:
        """Neither body nor length."""
        return exchange(self.hub, [f"POST /publish/{uuid or self.uuid} HTTP/1.1", *self._common(json=False)])

    def run(self) -> Reply:
        """All steps, each of which has to succeed; the last answer."""
        for step in (self.status, self.stage, self.put, self.publish):
            reply = step()
            assert reply.status == 200, reply.body
        return reply

    def _common(self, *, json: bool = True) -> list[str]:
        credential = [f"authorization: Bearer {self.token}"] if self.token is not None else []
        return [*credential, *(["content-type: application/json"] if json else []), "accept: */*", AGENT]
