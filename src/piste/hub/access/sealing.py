"""Secrets of the hub at rest: signing keys and token keys are encrypted where the operator gives a key.

A sealed value is: version 1 (1 byte), nonce (12), AES-256-GCM of the secret with its place as associated
data, so that a value which is moved to another row does not open. A copy of the database is then worth
nothing without the key.
"""

import hashlib
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from piste.lib.errors import UsageError

PLAIN_LENGTH: Final = 32
_VERSION: Final = b"\x01"
_NONCE_LENGTH: Final = 12


class Sealer:
    """Seals and opens. Without a key secrets are kept as they are; those that are sealed then don't open."""

    def __init__(self, key: bytes | None) -> None:
        self._cipher = None if key is None else AESGCM(hashlib.sha256(b"piste-seal-1" + key).digest())

    @property
    def has_key(self) -> bool:
        return self._cipher is not None

    def seal(self, secret: bytes, place: str) -> bytes:
        """`place` names the row, the same when it is opened."""
        if len(secret) != PLAIN_LENGTH:
            raise ValueError("a secret has 32 bytes")
        if self._cipher is None:
            return secret
        nonce = secrets.token_bytes(_NONCE_LENGTH)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, place.encode())

    def open(self, stored: bytes, place: str) -> bytes:
        """The secret; UsageError without the key that it was sealed with."""
        if not is_sealed(stored):
            return stored
        if self._cipher is None:
            raise _wrong_key("The hub's secrets are encrypted, and no key was given.")
        start = len(_VERSION) + _NONCE_LENGTH
        try:
            return self._cipher.decrypt(stored[len(_VERSION) : start], stored[start:], place.encode())
        except InvalidTag:
            raise _wrong_key("The hub's secrets were encrypted with another key.") from None


def is_sealed(stored: bytes) -> bool:
    return len(stored) != PLAIN_LENGTH


def token_key_place(number: int) -> str:
    return f"token_key:{number}"


def signing_key_place(id_: str) -> str:
    return f"signing_key:{id_}"


def _wrong_key(message: str) -> UsageError:
    return UsageError(
        "secrets-sealed",
        message,
        hint="Give --secrets-key-file (PISTE_SECRETS_KEY_FILE) as at the first start.",
    )
