"""The closure token: who holds it reads one manifest's closure for one hour.

`piste_closure_` and base64url of: version 1 (1 byte) | key id (4) | expiry in seconds (8) | manifest digest
(32) | parent token (16, zero for nobody) | project (16) | HMAC-SHA256 over `piste-closure-1` and all of it
before (32). Numbers are big-endian. Checking one costs microseconds and asks nobody.
"""

import base64
import binascii
import hashlib
import hmac
import struct
import uuid
from dataclasses import dataclass
from typing import Final

from piste.hub.access.token_text import CLOSURE_PREFIX

LIFETIME_SECONDS: Final = 3600
_CONTEXT: Final = b"piste-closure-1"
_LAYOUT: Final = struct.Struct(">BIQ32s16s16s")
_VERSION: Final = 1
_MAC_LENGTH: Final = 32
_TEXT_LENGTH: Final = -(-(_LAYOUT.size + _MAC_LENGTH) * 4 // 3)
_NOBODY: Final = bytes(16)


@dataclass(frozen=True)
class ClosureClaims:
    key_id: int
    expires: int  # seconds since the epoch
    manifest: str  # sha256:<hex>
    parent: str  # id of a token; empty for nobody
    project: str  # id

    @property
    def issued(self) -> int:
        return self.expires - LIFETIME_SECONDS


def make_closure_token(claims: ClosureClaims, secret: bytes) -> str:
    """The text of a token for these claims."""
    body = _LAYOUT.pack(
        _VERSION,
        claims.key_id,
        claims.expires,
        bytes.fromhex(claims.manifest.removeprefix("sha256:")),
        uuid.UUID(claims.parent).bytes if claims.parent else _NOBODY,
        uuid.UUID(claims.project).bytes,
    )
    return CLOSURE_PREFIX + base64.urlsafe_b64encode(body + _mac(secret, body)).rstrip(b"=").decode()


def read_closure_token(text: str) -> tuple[ClosureClaims, bytes, bytes] | None:
    """Claims, what was signed, and the signature, none of it checked; None for what has not the form."""
    encoded = text.removeprefix(CLOSURE_PREFIX)
    if len(encoded) != _TEXT_LENGTH or not encoded.isascii():
        return None
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    # One token has one spelling: the spare bits of the last character are zero.
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != encoded:
        return None
    body, mac = data[:-_MAC_LENGTH], data[-_MAC_LENGTH:]
    version, key_id, expires, manifest, parent, project = _LAYOUT.unpack(body)
    if version != _VERSION:
        return None
    claims = ClosureClaims(
        key_id=key_id,
        expires=expires,
        manifest="sha256:" + manifest.hex(),
        parent="" if parent == _NOBODY else str(uuid.UUID(bytes=parent)),
        project=str(uuid.UUID(bytes=project)),
    )
    return claims, body, mac


def is_authentic(body: bytes, mac: bytes, secret: bytes) -> bool:
    """Whether the hub made this token with this key; takes as long for a wrong one as for a right one."""
    return hmac.compare_digest(_mac(secret, body), mac)


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, _CONTEXT + body, hashlib.sha256)
