"""Ed25519 keys and signatures as Nix writes them: `name:base64`.

A secret key never shows in a repr, an error or a log. A signature that cannot be read is simply not valid.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_KEY_SIZE: Final = 32
_SIGNATURE_SIZE: Final = 64
_MAX_NAME: Final = 255


class SignatureKeyError(ValueError):
    """The text is not a key. The message never quotes it, since it may be a secret one."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    name: str
    key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key) != _KEY_SIZE:
            raise SignatureKeyError(
                f"the public key {self.name} has {len(self.key)} bytes instead of {_KEY_SIZE}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        name, data = _split(text, "public key")
        if len(data) == _SIGNATURE_SIZE:
            raise SignatureKeyError(f"the key {name} is a secret key, but a public key belongs here")
        return cls(name, data)

    def verify(self, text: str, signature: str) -> bool:
        """Whether `signature` was made over `text` with this key, and names it."""
        name, _, encoded = signature.partition(":")
        if name != self.name:
            return False
        data = _from_base64(encoded)
        if data is None or len(data) != _SIGNATURE_SIZE:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(data, text.encode())
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}:{base64.b64encode(self.key).decode()}"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key that signs. `format_secret` is the only way to its text."""

    name: str
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.seed) != _KEY_SIZE:
            raise SignatureKeyError(f"the secret key {self.name} has a seed of the wrong length")

    @classmethod
    def generate(cls, name: str) -> Self:
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the file form, `name:base64` of seed and public key."""
        name, data = _split(text, "secret key")
        if len(data) != 2 * _KEY_SIZE:
            what = "a public key" if len(data) == _KEY_SIZE else "no secret key"
            raise SignatureKeyError(f"the key {name} is {what}, but a secret key belongs here")
        key = cls(name, data[:_KEY_SIZE])
        if key.public.key != data[_KEY_SIZE:]:
            raise SignatureKeyError(f"the two halves of the secret key {name} do not belong together")
        return key

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.name, self._private().public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """`name:base64` over the UTF-8 of the text."""
        return f"{self.name}:{base64.b64encode(self._private().sign(text.encode())).decode()}"

    def format_secret(self) -> str:
        """The text that Nix keeps in its key files. For a file of mode 0600, and nowhere else."""
        return f"{self.name}:{base64.b64encode(self.seed + self.public.key).decode()}"

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def verify_any(keys: Iterable[PublicKey], text: str, signatures: Iterable[str]) -> PublicKey | None:
    """The first of the keys by which one of the signatures is valid."""
    candidates = tuple(signatures)
    return next((key for key in keys if any(key.verify(text, one) for one in candidates)), None)


def is_signature(text: str) -> bool:
    """Whether the text has the form of a signature, by whomever."""
    name, _, encoded = text.partition(":")
    data = _from_base64(encoded)
    return _is_name(name) and data is not None and len(data) == _SIGNATURE_SIZE


def _split(text: str, what: str) -> tuple[str, bytes]:
    name, colon, encoded = text.strip().partition(":")
    data = _from_base64(encoded)
    if not colon or not _is_name(name) or data is None:
        raise SignatureKeyError(f"this is not a {what}: it needs the form NAME:BASE64")
    return name, data


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MAX_NAME and text.isprintable() and " " not in text and ":" not in text


def _check_name(text: str) -> None:
    if not _is_name(text):
        raise SignatureKeyError("the name of a key has no spaces and no colon, and is not empty")


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
