"""A hash with its algorithm, in every form that Nix reads and writes: nix32, hex, base 64, SRI.

Must never guess an algorithm: a bare digest needs one from the caller.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

from piste.nix import base32

Algorithm = Literal["md5", "sha1", "sha256", "sha512"]

SIZES: Final[dict[str, int]] = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}
_ALGORITHMS: Final[dict[str, Algorithm]] = {name: name for name in get_args(Algorithm)}


class HashError(ValueError):
    """The text is not a hash, or not one of the wanted algorithm."""


@dataclass(frozen=True, slots=True)
class Hash:
    algorithm: Algorithm
    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != SIZES[self.algorithm]:
            raise HashError(
                f"a {self.algorithm} hash has {SIZES[self.algorithm]} bytes, not {len(self.digest)}"
            )

    @classmethod
    def parse(cls, text: str, algorithm: Algorithm | None = None) -> Self:
        """Read `sha256:<nix32|hex|base64>`, `sha256-<base64>`, or a bare digest with the algorithm given."""
        named, separator, rest = _split(text)
        if named is None:
            if algorithm is None:
                raise HashError(f"{text!r} does not say its algorithm, as `sha256:` would")
            return cls(algorithm, _digest(text, algorithm))
        if algorithm is not None and named != algorithm:
            raise HashError(f"the hash {text!r} should be {algorithm}")
        if separator == "-":
            return cls(named, _from_base64(rest, named))
        return cls(named, _digest(rest, named))

    @property
    def base32(self) -> str:
        """The bare digest in nix32."""
        return base32.encode(self.digest)

    def nix32(self) -> str:
        """`sha256:<nix32>`, as narinfos and fingerprints have it."""
        return f"{self.algorithm}:{self.base32}"

    def hex(self) -> str:
        """The bare digest in hex, as the daemon's protocol has it."""
        return self.digest.hex()

    def sri(self) -> str:
        """`sha256-<base64>`, as lock files have it."""
        return f"{self.algorithm}-{base64.b64encode(self.digest).decode()}"

    def __str__(self) -> str:
        return self.nix32()


def sha256_of(data: bytes) -> Hash:
    return Hash("sha256", hashlib.sha256(data).digest())


def _split(text: str) -> tuple[Algorithm | None, str, str]:
    for separator in (":", "-"):
        name, found, rest = text.partition(separator)
        if found and name in _ALGORITHMS:
            return _ALGORITHMS[name], separator, rest
    return None, "", text


def _digest(text: str, algorithm: Algorithm) -> bytes:
    """The forms have different lengths for each algorithm, so the length tells the form."""
    size = SIZES[algorithm]
    if len(text) == base32.encoded_length(size):
        try:
            return base32.decode(text)
        except base32.Base32Error as error:
            raise HashError(f"{text!r} is not a {algorithm} hash: {error}") from None
    if len(text) == size * 2:
        try:
            return binascii.unhexlify(text)
        except ValueError:
            raise HashError(
                f"{text!r} is not a {algorithm} hash: it has characters that are not hex"
            ) from None
    return _from_base64(text, algorithm)


def _from_base64(text: str, algorithm: Algorithm) -> bytes:
    size = SIZES[algorithm]
    if len(text) != (size + 2) // 3 * 4:
        raise HashError(
            f"{text!r} is not a {algorithm} hash: it has {len(text)} characters, which no form has"
        )
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        raise HashError(f"{text!r} is not a {algorithm} hash: it is not base 64") from None
    # Base 64 leaves bits unused at the end; only one spelling of a hash is accepted.
    if len(digest) != size or base64.b64encode(digest).decode() != text:
        raise HashError(f"{text!r} is not a {algorithm} hash: its base 64 is not canonical")
    return digest
