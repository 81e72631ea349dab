"""Who asks: the Authorization header becomes an Actor. Nobody is only who sends no credential; a wrong one is
an error.

Tokens are looked up anew for each request, so a revocation holds from the next request on. It must never put
a token into an error or a log.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from piste.hub.access import queries
from piste.hub.access.closures import ClosureTokens, unknown_credential
from piste.hub.access.records import Actor, Binding, Kind, Role, Session
from piste.hub.access.token_text import hash_token, looks_like_token, token_kind
from piste.hub.db.base import Database, Row
from piste.hub.errors import HubError
from piste.lib.clock import MINUTE, Clock

NOBODY: Final = Actor()
_MAX_HEADER: Final = 16 * 1024  # the identity of a CI may have many claims
_USE_STEP: Final = MINUTE


class Authenticator:
    """Turns credentials into actors."""

    def __init__(self, database: Database, closures: ClosureTokens, clock: Clock) -> None:
        self._database = database
        self._closures = closures
        self._clock = clock
        self._used: dict[str, int] = {}

    async def authenticate(self, headers: Sequence[tuple[bytes, bytes]]) -> Actor:
        """The actor of a request's raw headers; HubError 400 or 401."""
        text = single_credential(headers)
        return NOBODY if text is None else await self.actor_of(text)

    async def actor_of(self, text: str) -> Actor:
        """The actor of a token."""
        kind = token_kind(text)
        if kind is None:
            raise unknown_credential()
        if kind is Kind.CLOSURE:
            return await self._closures.check(text)
        rows = await queries.token_by_hash(self._database, hash_token(text))
        if not rows or rows[0]["kind"] != kind or rows[0]["revoked_at"] is not None:
            raise unknown_credential()
        row = rows[0]
        now = self._clock()
        if row["expires_at"] is not None and now >= row["expires_at"]:
            raise HubError(
                "credential-expired", "This token has expired.", hint="Ask for a new one, or log in again."
            )
        self._used[row["id"]] = now - now % _USE_STEP
        return _actor(rows)

    async def record_use(self) -> None:
        """Write down when tokens were last used, to the minute; for a task that runs now and then."""
        used, self._used = self._used, {}
        if not used:
            return
        async with self._database.transaction() as connection:
            await connection.many(
                "UPDATE token SET last_used_at = $2 WHERE id = $1 AND COALESCE(last_used_at, 0) < $2",
                list(used.items()),
            )


def single_credential(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The credential of a request's raw headers, none of it checked; None if there is none."""
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if len(values) > 1:
        raise HubError("bad-request", "The request has two Authorization headers.", hint="Send one of them.")
    return read_credential(values[0]) if values else None


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
            ),
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
