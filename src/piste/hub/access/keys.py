"""The keys with which an organization signs paths and statements. They live in the database, for all
processes.

A secret seed leaves this module only inside a SecretKey, whose repr doesn't show it. Of a key that publishers
hold there is no seed here, and never was.
"""

from dataclasses import dataclass

from piste.hub.access import queries
from piste.hub.access.sealing import Sealer, signing_key_place
from piste.hub.db.base import Connection, Database
from piste.lib.clock import Clock
from piste.lib.identifiers import new_id
from piste.nix.signature import PublicKey, SecretKey


@dataclass(frozen=True)
class SigningKeys:
    """The keys of one organization at one moment, the newest first."""

    public: tuple[PublicKey, ...]  # those that sign now, whoever holds them
    secret: tuple[SecretKey, ...]  # those of them that the hub holds
    revoked: frozenset[str]  # names of those that sign nothing more

    @property
    def publishers(self) -> tuple[PublicKey, ...]:
        """Those that the organization's publishers hold: the hub can't sign with them."""
        ours = {key.name for key in self.secret}
        return tuple(key for key in self.public if key.name not in ours)


class Keyring:
    """Reads keys anew each time they are asked for: another process may have rotated them."""

    def __init__(self, database: Database, clock: Clock, sealer: Sealer) -> None:
        self._database = database
        self._clock = clock
        self._sealer = sealer

    async def keys_of(self, organization: str) -> SigningKeys:
        """All keys of an organization (id)."""
        rows = await queries.signing_keys(self._database, organization)
        now = [row for row in rows if row["retired_at"] is None]
        return SigningKeys(
            public=tuple(PublicKey(row["name"], row["public"]) for row in now),
            secret=tuple(
                SecretKey(row["name"], self._sealer.open(row["secret"], signing_key_place(row["id"])))
                for row in now
                if row["secret"] is not None
            ),
            revoked=frozenset(row["name"] for row in rows if row["retired_at"] is not None),
        )

    async def signing_keys(self, organization: str) -> list[SecretKey]:
        """Keys of an organization (id) that sign now, the newest first; not those that its publishers
        hold."""
        return list((await self.keys_of(organization)).secret)

    async def public_keys(self, organization: str) -> list[PublicKey]:
        """Keys of an organization (id) that hosts should trust, the newest first."""
        rows = await queries.signing_keys(self._database, organization)
        return [PublicKey(row["name"], row["public"]) for row in rows if row["retired_at"] is None]

    async def add_key(self, connection: Connection, organization: str, organization_name: str) -> SecretKey:
        """A further key, `<organization>-<n>`, inside the transaction of the caller."""
        number = await queries.signing_key_count(connection, organization) + 1
        key = SecretKey.generate(f"{organization_name.lower()}-{number}")
        now = self._clock()
        id_ = new_id(now)
        sealed = self._sealer.seal(key.seed, signing_key_place(id_))
        await queries.add_signing_key(connection, (id_, organization, key.name, key.public.key, sealed, now))
        return key

    async def add_public_key(self, connection: Connection, organization: str, key: PublicKey) -> int:
        """A key that the organization's publishers hold; when it was added. ConflictError for a name that
        was used before."""
        now = self._clock()
        await queries.add_signing_key(connection, (new_id(now), organization, key.name, key.key, None, now))
        return now
