"""Who asks: the Authorization header becomes an Actor. Nobody is only who sends no credential; a wrong one is
an error.

Tokens are looked up anew for each request, so a revocation holds from the next request on; only what reads a
cache may be remembered, where it holds within a second. It must never put a token into an error or a log.
"""

import base64
import binascii
import re
import time
from collections.abc import Sequence
from typing import Final, Protocol

from piste.hub.access import queries
from piste.hub.access.closures import ClosureTokens, unknown_credential
from piste.hub.access.records import Actor, Binding, Kind, Role, Session
from piste.hub.access.remembered import Remembered
from piste.hub.access.revocations import Revocations
from piste.hub.access.token_text import hash_token, looks_like_identity, looks_like_token, token_kind
from piste.hub.db.base import Database, Row
from piste.hub.errors import HubError
from piste.lib.clock import MINUTE, Clock

NOBODY: Final = Actor()
_MAX_HEADER: Final = 16 * 1024  # the identity of a CI may have many claims
_USE_STEP: Final = MINUTE
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


class Issued(Protocol):
    """Knows the identities that others issue: JWTs of a CI."""

    async def actor(self, text: str, *, late: bool) -> Actor: ...


class Authenticator:
    """Turns credentials into actors."""

    def __init__(
        self,
        database: Database,
        closures: ClosureTokens,
        issued: Issued,
        revocations: Revocations,
        clock: Clock,
    ) -> None:
        self._database = database
        self._closures = closures
        self._issued = issued
        self._clock = clock
        self._remembered = Remembered(revocations, clock)
        self._used: dict[str, tuple[int, str, str | None]] = {}

    async def authenticate(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        address: str = "-",
        remember: bool = False,
        late: bool = False,
    ) -> Actor:
        """The actor of a request's raw headers; HubError 400, 401 or 403. `remember`: one that was found a
        moment ago will do. `late`: so will an identity that has expired a moment ago."""
        value = _single_header(headers)
        if value is None:
            return NOBODY
        if remember and (known := self._remembered.find(value)) is not None:
            return known
        started = time.monotonic()
        actor = await self.actor_of(read_credential(value), late=late)
        self._note_use(actor, address, headers)
        if remember:
            self._remembered.keep(value, actor, started)
        return actor

    async def actor_of(self, text: str, *, late: bool = False) -> Actor:
        """The actor of a token, or of the identity of a CI."""
        if looks_like_identity(text):
            return await self._issued.actor(text, late=late)
        kind = token_kind(text)
        if kind is None:
            raise unknown_credential()
        if kind is Kind.CLOSURE:
            return await self._closures.check(text)
        rows = await queries.token_by_hash(self._database, hash_token(text))
        if not rows or rows[0]["kind"] != kind:
            raise unknown_credential()
        row, actor = rows[0], _actor(rows)
        if row["revoked_at"] is not None:
            raise unknown_credential("the token was revoked", actor)
        if row["expires_at"] is not None and self._clock() >= row["expires_at"]:
            raise HubError(
                "credential-expired",
                "This token has expired.",
                hint="Ask for a new one, or log in again.",
                reason="the token has expired",
                actor=actor,
            )
        return actor

    async def holder(self, token: str) -> Actor | None:
        """The actor of a token that is known by its id; None where it does not count any more."""
        rows = await queries.token_by_id(self._database, token)
        if not rows or rows[0]["revoked_at"] is not None:
            return None
        expires = rows[0]["expires_at"]
        return None if expires is not None and self._clock() >= expires else _actor(rows)

    def _note_use(self, actor: Actor, address: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if actor.token is None:
            return
        now = self._clock()
        host = next((value for name, value in headers if name.lower() == b"piste-host"), b"").decode(
            "latin-1"
        )
        named = host if _HOST.fullmatch(host) and not looks_like_token(host) else None
        self._used[actor.token] = (now - now % _USE_STEP, address, named)

    async def record_use(self) -> None:
        """Write down when and where tokens were last used, to the minute; for a task that runs now and
        then. The host is what the client calls itself, and proves nothing."""
        used, self._used = self._used, {}
        if not used:
            return
        async with self._database.transaction() as connection:
            await connection.many(
                """UPDATE token SET last_used_at = $2, last_used_address = $3, last_used_host = $4
                   WHERE id = $1 AND COALESCE(last_used_at, 0) <= $2""",
                sorted((token, *use) for token, use in used.items()),
            )


def single_credential(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The credential of a request's raw headers, none of it checked; None if there is none."""
    value = _single_header(headers)
    return None if value is None else read_credential(value)


def _single_header(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if len(values) > 1:
        raise HubError("bad-request", "The request has two Authorization headers.", hint="Send one of them.")
    return values[0] if values else None


def read_credential(value: bytes) -> str:
    """The token in an Authorization header: Bearer in any spelling, or Basic with the token as the
    password."""
    scheme, _, rest = value.strip().partition(b" ")
    if len(value) > _MAX_HEADER:
        raise HubError("bad-request", "The Authorization header is too long.")
    match scheme.lower():
        case b"bearer":
            return rest.strip().decode("latin-1")
        case b"basic":
            return _password(rest.strip())
        case _:
            raise HubError(
                "bad-request",
                "The hub takes no credential of this kind.",
                hint="Send the token as `Authorization: Bearer TOKEN`, or as the password of Basic.",
            )


def _password(encoded: bytes) -> str:
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise HubError("bad-request", "The Basic credential can't be read.") from error
    user, _, password = text.partition(":")
    if looks_like_token(user):
        raise HubError(
            "credential-as-user-name",
            "The token stands in the place of the user name.",
            hint="Put the token where the password belongs; any user name will do.",
        )
    return password


def _actor(rows: Sequence[Row]) -> Actor:
    row = rows[0]
    if row["kind"] == Kind.RESOLVE_ONLY:
        return Actor(
            kind=Kind.RESOLVE_ONLY,
            token=row["id"],
            organization=row["organization"],
            binding=Binding(
                project=row["project"],
                requirement=row["requirement"],
                attribute=row["attribute"],
                minimum_version=row["minimum_version"],
            ),
            expires_at=row["expires_at"],
        )
    if row["kind"] == Kind.SESSION:
        return Actor(
            kind=Kind.SESSION,
            token=row["id"],
            organization=row["organization"],
            name=row["session_subject"],
            session=Session(
                project=row["project"],
                project_name=row["session_project"],
                version=row["session_version"],
                rolling=bool(row["session_rolling"]),
                stage=row["session_stage"],
                issuer=row["session_issuer"],
            ),
            expires_at=row["expires_at"],
        )
    if row["kind"] == Kind.DEVICE:
        return Actor(
            kind=Kind.DEVICE,
            token=row["id"],
            organization=row["organization"],
            expires_at=row["expires_at"],
        )
    return Actor(
        kind=Kind.USER,
        token=row["id"],
        person=row["person"],
        name=row["person_name"],
        superuser=bool(row["superuser"]),
        organization=row["organization"],
        roles={each["member_of"]: Role(each["role"]) for each in rows if each["member_of"] is not None},
        expires_at=row["expires_at"],
    )
