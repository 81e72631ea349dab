"""The keys of issuers, as their own documents say them: discovery, then JWKS, through the one way out.

Kept in this process between a floor and a ceiling, whatever the issuer's headers say. A key that is not
known yet is looked for once more; an issuer that does not answer is left alone for a while, and what was read
before holds meanwhile. It must never ask an issuer that no rule names: its callers see to that.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from piste.hub.egress.outbound import Egress, Fetched
from piste.hub.egress.rules import EgressError
from piste.hub.errors import HubError
from piste.lib.clock import HOUR, MINUTE, SECOND, Clock

FLOOR: Final = 5 * MINUTE  # an issuer is asked no more often for what it said itself …
CEILING: Final = 6 * HOUR  # … and no less often
OUTAGE: Final = 24 * HOUR  # how long its keys hold while it does not answer
UNKNOWN_PAUSE: Final = 30 * SECOND  # between two looks for keys that are not known
FAILURE_PAUSE: Final = 10 * SECOND
_MAX_ISSUERS: Final = 256
_MAX_KEYS: Final = 64
_DISCOVERY: Final = ".well-known/openid-configuration"
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,9})(?:$|[\s,])")
_RSA_BYTES: Final = (256, 1024)  # 2048 bits at least; above 8192 each check would take too long

# Public-key algorithms only, each for its own type of key: no name in a token chooses another.
ALGORITHMS: Final = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
}

T = TypeVar("T")
PublicKey = RSAKey | ECKey | OKPKey

_log = structlog.get_logger("piste.hub.identities")


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str
    id_token_signing_alg_values_supported: list[str] = []


class _Jwk(msgspec.Struct):
    """What decides whether a key is taken; `d` would make it a private one."""

    kty: str
    kid: str
    use: str = "sig"
    alg: str | None = None
    crv: str | None = None
    n: str = ""
    d: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Jwks(msgspec.Struct):
    keys: list[msgspec.Raw]


@dataclass(frozen=True)
class IssuerKey:
    kid: str
    type: str
    curve: str | None
    algorithm: str | None
    key: PublicKey

    def serves(self, kid: str, algorithm: str) -> bool:
        kind = ALGORITHMS.get(algorithm)
        fits = kind == (self.type, self.curve) and self.algorithm in (None, algorithm)
        return fits and self.kid == kid


@dataclass
class _Held:
    """What this process knows of one issuer. Moments are microseconds of the clock."""

    keys: Sequence[IssuerKey] = ()
    algorithms: frozenset[str] = frozenset()
    read_at: int | None = None
    fresh_until: int = 0
    looked_at: int = -UNKNOWN_PAUSE  # when a key was last looked for that was not known
    failed_at: int | None = None
    reading: asyncio.Task[None] | None = field(default=None, repr=False)

    def find(self, kid: str, algorithm: str) -> IssuerKey | None:
        if self.algorithms and algorithm not in self.algorithms:
            return None
        return next((key for key in self.keys if key.serves(kid, algorithm)), None)


class Issuers:
    """The keys of the issuers that rules name."""

    def __init__(self, egress: Egress, clock: Clock) -> None:
        self._egress = egress
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()

    async def key(self, issuer: str, kid: str, algorithm: str) -> PublicKey | None:
        """The issuer's key of that name for that algorithm; None if it has none. HubError while it can't be
        asked.
        """
        held = self._entry(issuer)
        now = self._clock()
        stale = held.read_at is None or now >= held.fresh_until
        if stale:
            await self._renew(issuer, held)
        found = held.find(kid, algorithm)
        if found is None and not stale and now - held.looked_at >= UNKNOWN_PAUSE:
            # It may have new keys since. Whoever sends names that nobody has, gets it asked twice a minute.
            await self._renew(issuer, held)
            found = held.find(kid, algorithm)
            if held.failed_at is None:
                held.looked_at = now
        if found is None and held.failed_at is not None:
            raise _unreachable()
        return None if found is None else found.key

    def _entry(self, issuer: str) -> _Held:
        held = self._held.setdefault(issuer, _Held())
        self._held.move_to_end(issuer)
        while len(self._held) > _MAX_ISSUERS:
            self._held.popitem(last=False)
        return held

    async def _renew(self, issuer: str, held: _Held) -> None:
        """Read anew; what was read before stays for the length of an outage."""
        now = self._clock()
        if held.failed_at is None or now - held.failed_at >= FAILURE_PAUSE:
            # Many runs begin at once; the issuer is asked once for all of them.
            if held.reading is None:
                held.reading = asyncio.create_task(self._read(issuer, held))
            await asyncio.shield(held.reading)
        if held.read_at is None or now - held.read_at >= OUTAGE:
            raise _unreachable()

    async def _read(self, issuer: str, held: _Held) -> None:
        try:
            discovery = _decoded(
                await self._egress.fetch(f"{issuer.removesuffix('/')}/{_DISCOVERY}"), _Discovery
            )
            if discovery.issuer != issuer:
                raise EgressError("the document speaks of another issuer")
            document = await self._egress.fetch(discovery.jwks_uri)
            held.keys = _keys(_decoded(document, _Jwks))
        except EgressError as error:
            held.failed_at = self._clock()
            _log.warning("issuer-not-read", issuer=issuer, reason=str(error))
        else:
            now = self._clock()
            held.algorithms = frozenset(discovery.id_token_signing_alg_values_supported)
            held.read_at, held.failed_at = now, None
            held.fresh_until = now + lifetime(document.headers.get("cache-control", ""))
        finally:
            held.reading = None


def _unreachable() -> HubError:
    return HubError(
        "issuer-unreachable",
        "The issuer's keys can't be read at the moment.",
        hint="Try again; if it stays, whoever runs the hub finds the reason in its log.",
    )


def lifetime(cache_control: str) -> int:
    """How long a document is kept, in microseconds: as its server says, within floor and ceiling."""
    match = _MAX_AGE.search(cache_control.lower())
    return min(max(int(match[1]) * SECOND if match else HOUR, FLOOR), CEILING)


def _decoded(document: Fetched, into: type[T]) -> T:
    try:
        return msgspec.json.decode(document.body, type=into)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EgressError(f"not the document that belongs there: {error}") from error


def _keys(jwks: _Jwks) -> list[IssuerKey]:
    """The keys that can be used; others are left out. Two of one name are a mistake, and nobody guesses."""
    found = [key for raw in jwks.keys[:_MAX_KEYS] if (key := _key(raw)) is not None]
    names = [key.kid for key in found]
    if len(set(names)) != len(names):
        raise EgressError("two keys have one name")
    return found


def _key(raw: msgspec.Raw) -> IssuerKey | None:
    try:
        said = msgspec.json.decode(raw, type=_Jwk)
        if (
            (said.kty, said.crv) not in ALGORITHMS.values()
            or said.use != "sig"
            or said.d is not msgspec.UNSET
        ):
            return None
        if said.kty == "RSA" and not _RSA_BYTES[0] <= len(said.n) * 3 // 4 <= _RSA_BYTES[1]:
            return None
        (key,) = KeySet.import_key_set({"keys": [msgspec.json.decode(raw)]}).keys
    except (msgspec.DecodeError, JoseError, ValueError, TypeError, RecursionError):
        return None
    if not isinstance(key, RSAKey | ECKey | OKPKey):
        return None
    return IssuerKey(said.kid, said.kty, said.crv, said.alg, key)
