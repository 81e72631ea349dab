"""What a token looks like: `piste_user_` (or `device`, `resolve`, `session`), 43 characters of chance, 6 of
checksum.

The prefix lets people and scanners recognise one; the checksum tells a cut or mistyped one without asking the
database. Only the SHA-256 of the text is ever kept.
"""

import hashlib
import secrets
import zlib
from typing import Final

from piste.hub.access.records import Kind

PREFIXES: Final = {
    Kind.USER: "piste_user_",
    Kind.DEVICE: "piste_device_",
    Kind.RESOLVE_ONLY: "piste_resolve_",
    Kind.SESSION: "piste_session_",
}
CLOSURE_PREFIX: Final = "piste_closure_"
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH: Final = 43
_CHECK_LENGTH: Final = 6


def make_token(kind: Kind) -> str:
    """A new token of 256 bits of chance."""
    body = PREFIXES[kind] + _base62(secrets.randbits(256), _RANDOM_LENGTH)
    return body + _checksum(body)


def token_kind(text: str) -> Kind | None:
    """The kind that a token says it is; None for what can't be a token."""
    for kind, prefix in PREFIXES.items():
        if text.startswith(prefix) and len(text) == len(prefix) + _RANDOM_LENGTH + _CHECK_LENGTH:
            body, check = text[:-_CHECK_LENGTH], text[-_CHECK_LENGTH:]
            return kind if text.isascii() and _checksum(body) == check else None
    if text.startswith(CLOSURE_PREFIX):
        return Kind.CLOSURE
    return None


def looks_like_token(text: str) -> bool:
    """Whether somebody put a token, or the identity of a CI, where something else belongs."""
    return text.startswith((*PREFIXES.values(), CLOSURE_PREFIX)) or looks_like_identity(text)


def looks_like_identity(text: str) -> bool:
    """Whether this is meant as a signed JWT: three parts, the first of them an object in base64url."""
    return text.startswith("eyJ") and text.count(".") == 2


def hash_token(text: str) -> bytes:
    """What the database knows of a token."""
    return hashlib.sha256(text.encode()).digest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
