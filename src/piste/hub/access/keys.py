"""The keys with which an organization signs paths and statements. They live in the database, for all
processes.

A secret seed leaves this module only inside a SecretKey, whose repr doesn't show it.
"""

from piste.hub.access import queries
from piste.hub.access.sealing import Sealer, signing_key_place
from piste.hub.db.base import Connection, Database
from piste.lib.clock import Clock
from piste.lib.identifiers import new_id
from piste.nix.signature import PublicKey, SecretKey


class Keyring:
    """Reads keys anew each time they are asked for: another process may have rotated them."""

    def __init__(self, database: Database, clock: Clock, sealer: Sealer) -> None:
        self._database = database
        self._clock = clock
        self._sealer = sealer

    async def signing_keys(self, organization: str) -> list[SecretKey]:
        """Keys of an organization (id) that sign now, the newest first; not those that its publishers
        hold."""
        rows = await queries.signing_keys(self._database, organization)
        return [
            SecretKey(row["name"], self._sealer.open(row["secret"], signing_key_place(row["id"])))
            for row in rows
            if row["secret"] is not None
        ]

    async def public_keys(self, organization: str) -> list[PublicKey]:
        """Keys of an organization (id) that hosts should trust, the newest first."""
        rows = await queries.signing_keys(self._database, organization)
        return [PublicKey(row["name"], row["public"]) for row in rows]

    async def add_key(self, connection: Connection, organization: str, organization_name: str) -> SecretKey:
        """A further key, `<organization>-<n>`, inside the transaction of the caller."""
        number = await queries.signing_key_count(connection, organization) + 1
        key = SecretKey.generate(f"{organization_name.lower()}-{number}")
        now = self._clock()
        id_ = new_id(now)
        sealed = self._sealer.seal(key.seed, signing_key_place(id_))
        await queries.add_signing_key(connection, (id_, organization, key.name, key.public.key, sealed, now))
        return key
