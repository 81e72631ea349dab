"""Reads a CI's identity: a signed JWT of an issuer that some rule names. Everything about it is checked
before anything of it is believed; the rules of a project come after.

It must never put the token, or what it says, into an error.
"""

import base64
import binascii
import hashlib
import math
import warnings
from typing import Any, Final

import msgspec
import structlog
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning

from piste.hub.db.base import Database
from piste.hub.errors import HubError
from piste.hub.identities import queries
from piste.hub.identities.issuers import ALGORITHMS, Issuers
from piste.hub.identities.records import Identity
from piste.lib.clock import SECOND, Clock

SKEW: Final = 30  # seconds that two clocks may differ
LONGEST_LIFE: Final = 24 * 3600
_MAX_LENGTH: Final = 16 * 1024
_MAX_TEXT: Final = 1024
_MAX_AUDIENCES: Final = 16

# `EdDSA` is the older name of an algorithm that is as sound under either; issuers still use it.
warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)

_log = structlog.get_logger("piste.hub.identities")


class _Header(msgspec.Struct):
    """`crit` names what must be understood: nothing of it is."""

    alg: str
    kid: str
    typ: str | None = None
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Payload(msgspec.Struct):
    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    iat: int | float
    nbf: int | float | None = None
    jti: str | None = None


class Identities:
    """Verifies identities."""

    def __init__(self, database: Database, issuers: Issuers, clock: Clock) -> None:
        self._database = database
        self._issuers = issuers
        self._clock = clock

    async def verify(self, text: str, *, late: int = 0) -> Identity:
        """The identity of a JWT; HubError (401) for one that doesn't count, 503 while its issuer can't be
        asked. `late`: for how many seconds after its end it still counts.
        """
        header, payload = _read(text)
        if header.alg not in ALGORITHMS:
            raise _invalid("algorithm")
        if len(payload.iss) > _MAX_TEXT or not payload.iss.isprintable():
            raise _invalid("issuer")
        # Nobody gets the hub to ask an address that no admin has named.
        if not await queries.is_trusted_issuer(self._database, payload.iss):
            raise _invalid("issuer")
        key = await self._issuers.key(payload.iss, header.kid, header.alg)
        if key is None:
            raise _invalid("key")
        registry = jws.JWSRegistry(algorithms=[header.alg], strict_check_header=False)
        try:
            verified = jws.deserialize_compact(text, key, [header.alg], registry).payload
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise _invalid("signature") from error
        payload = _decode(verified or b"", _Payload)
        self._check_times(payload, late)
        return _identity(text, payload, verified or b"")

    def _check_times(self, payload: _Payload, late: int) -> None:
        now = self._clock() / SECOND
        times = [payload.exp, payload.iat, *([payload.nbf] if payload.nbf is not None else [])]
        if not all(0 < moment < 1 << 40 for moment in times):
            raise _invalid("times")
        if not payload.iat <= payload.exp <= payload.iat + LONGEST_LIFE:
            raise _invalid("lifetime")
        if now >= payload.exp + SKEW + late:
            raise expired()
        if now < max(payload.iat, payload.nbf or 0) - SKEW:
            raise _invalid("not yet")


def expired() -> HubError:
    return HubError(
        "identity-expired",
        "This identity has expired.",
        hint="Ask the CI for a new one right before it is used; check the clocks.",
    )


def _read(text: str) -> tuple[_Header, _Payload]:
    """Header and payload, none of it believed."""
    parts = text.split(".")
    if len(text) > _MAX_LENGTH or len(parts) != 3 or not all(parts):
        raise _invalid("form")
    header = _decode(_decode_base64(parts[0]), _Header)
    if header.crit is not msgspec.UNSET or header.typ not in (None, "JWT", "jwt"):
        raise _invalid("type")
    return header, _decode(_decode_base64(parts[1]), _Payload)


def _identity(text: str, payload: _Payload, verified: bytes) -> Identity:
    audience = [payload.aud] if isinstance(payload.aud, str) else payload.aud
    texts = (payload.sub, payload.iss, *([] if payload.jti is None else [payload.jti]))
    if not 0 < len(audience) <= _MAX_AUDIENCES or not all(0 < len(each) <= _MAX_TEXT for each in texts):
        raise _invalid("claims")
    if not payload.sub.isprintable():
        raise _invalid("subject")
    said: dict[str, Any] = _decode(verified, dict[str, Any])
    # Without a `jti` an identity is known again by what was signed; a signature alone may have two spellings.
    name = f"jti {payload.jti}" if payload.jti is not None else "text " + text.rpartition(".")[0]
    return Identity(
        issuer=payload.iss,
        subject=payload.sub,
        audience=tuple(audience),
        claims={key: value for key, value in said.items() if isinstance(value, str)},
        use=hashlib.sha256(f"{payload.iss}\0{name}".encode()).hexdigest(),
        expires=math.ceil(payload.exp),
    )


def _decode(data: bytes, into: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid("claims") from error


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid("form") from error


def _invalid(what: str) -> HubError:
    _log.info("identity-refused", reason=what)
    return HubError(
        "identity-invalid",
        "This is not the identity of a CI that this hub trusts.",
        hint="It has to be a JWT of an issuer that a rule names; `piste trust list` shows them.",
    )
