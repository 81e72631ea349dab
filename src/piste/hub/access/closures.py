"""Closure tokens as the hub makes and checks them, and what their manifests say. A manifest never changes, so
what was read once is kept, within bounds.
"""

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from piste.hub.access import queries
from piste.hub.access.closure_token import (
    LIFETIME_SECONDS,
    ClosureClaims,
    is_authentic,
    make_closure_token,
    read_closure_token,
)
from piste.hub.access.records import Actor, Closure, Kind
from piste.hub.access.revocations import Revocations
from piste.hub.access.sealing import Sealer, token_key_place
from piste.hub.db.base import ConflictError, Database
from piste.hub.errors import HubError
from piste.hub.storage.base import Objects
from piste.lib.clock import SECOND, Clock
from piste.wire.manifest import ManifestError, decode_manifest

_MAX_KEYS: Final = 64
# Paths over all manifests that are kept: some 300 bytes each, so 45 MB at the very most.
_MAX_PATHS: Final = 150_000
_KEY_LENGTH: Final = 32
_SETTLE_SECONDS: Final = 60


@dataclass(frozen=True)
class ClosureContents:
    """What a manifest lists: hash parts of store paths (also in its order), and hashes of NARs
    (`sha256:<nix32>`)."""

    listed: tuple[str, ...]
    hash_parts: frozenset[str]
    nar_hashes: frozenset[str]


class ClosureTokens:
    """Makes and checks closure tokens."""

    def __init__(
        self, database: Database, objects: Objects, clock: Clock, revocations: Revocations, sealer: Sealer
    ) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock
        self._revocations = revocations
        self._sealer = sealer
        self._keys: dict[int, bytes] = {}
        self._contents: OrderedDict[str, ClosureContents] = OrderedDict()
        self._kept_paths = 0
        self._loading: dict[str, asyncio.Task[ClosureContents | None]] = {}

    async def issue(self, actor: Actor, project: str, manifest: str) -> tuple[str, int]:
        """A token that reads the closure of a manifest (`sha256:<hex>`) of a project (id) for an hour, and
        its expiry in microseconds. The caller has decided that the actor may."""
        key_id, secret = await self._newest_key()
        expires = self._clock() // SECOND + LIFETIME_SECONDS
        claims = ClosureClaims(key_id, expires, manifest, actor.token or "", project)
        return make_closure_token(claims, secret), expires * SECOND

    async def check(self, text: str) -> Actor:
        """The actor of a closure token; HubError (401) for one that doesn't count."""
        parts = read_closure_token(text)
        if parts is None:
            raise unknown_credential()
        claims, body, mac = parts
        secret = await self._key(claims.key_id)
        if secret is None or not is_authentic(body, mac, secret):
            raise unknown_credential()
        closure = Closure(
            project=claims.project, manifest=claims.manifest, parent=claims.parent, key_id=claims.key_id
        )
        actor = Actor(kind=Kind.CLOSURE, closure=closure, expires_at=claims.expires * SECOND)
        if self._clock() >= claims.expires * SECOND:
            raise HubError(
                "credential-expired",
                "This closure token has expired.",
                hint="Resolve the reference again: each resolution gives a token for one hour.",
                reason="the closure token has expired",
                actor=actor,
            )
        if await self._revocations.is_revoked(closure, claims.issued * SECOND):
            raise unknown_credential("the closure token was revoked", actor)
        return actor

    async def contents(self, manifest: str) -> ClosureContents | None:
        """What a manifest lists; None when it is gone."""
        if (kept := self._contents.get(manifest)) is not None:
            self._contents.move_to_end(manifest)
            return kept
        # A client asks for many paths of a new closure at once; its manifest is read for all of them once.
        loading = self._loading.get(manifest)
        if loading is None:
            loading = self._loading[manifest] = asyncio.create_task(self._load(manifest))
            loading.add_done_callback(lambda _: self._loading.pop(manifest, None))
        return await asyncio.shield(loading)

    async def _load(self, manifest: str) -> ClosureContents | None:
        data = await self._objects.read(f"manifest/{manifest.removeprefix('sha256:')}.json")
        if data is None:
            return None
        try:
            # Tens of thousands of paths take too long for the event loop.
            found = await asyncio.to_thread(_contents, data, manifest)
        except ManifestError:
            return None
        self._keep(manifest, found)
        return found

    async def add_key(self) -> int:
        """A further key; the newest one makes tokens, older ones are still checked."""
        while True:
            newest = await self._database.one("SELECT max(id) AS id FROM token_key")
            number = ((newest["id"] if newest is not None else None) or 0) + 1
            try:
                async with self._database.transaction() as connection:
                    sealed = self._sealer.seal(secrets.token_bytes(_KEY_LENGTH), token_key_place(number))
                    await queries.add_token_key(connection, number, sealed, self._clock())
            except ConflictError:
                continue  # another process was first: take the next number
            return number

    async def rotate_keys(self, *, at_once: bool) -> tuple[int, int]:
        """Add a key, and let the others end: with the hour of the last tokens that they made, or now. The
        new key's number, and how many end."""
        made = await self.add_key()
        now = self._clock()
        # Another process may have read the old key just before, and clocks differ.
        ends = now if at_once else now + (LIFETIME_SECONDS + _SETTLE_SECONDS) * SECOND
        async with self._database.transaction() as connection:
            ended = await queries.end_token_keys(connection, made, ends, now)
            if at_once:
                for number in ended:
                    await self._revocations.add_key(connection, number)
        return made, len(ended)

    async def _newest_key(self) -> tuple[int, bytes]:
        found = await queries.newest_token_key(self._database)
        if found is None:
            await self.add_key()
            return await self._newest_key()
        number, stored = found
        return number, self._sealer.open(stored, token_key_place(number))

    async def _key(self, number: int) -> bytes | None:
        if (known := self._keys.get(number)) is not None:
            return known
        stored = await queries.token_key(self._database, number, self._clock())
        if stored is None:
            return None
        if len(self._keys) >= _MAX_KEYS:
            self._keys.clear()
        secret = self._keys[number] = self._sealer.open(stored, token_key_place(number))
        return secret

    def _keep(self, manifest: str, found: ClosureContents) -> None:
        self._contents[manifest] = found
        self._kept_paths += len(found.hash_parts)
        while self._kept_paths > _MAX_PATHS and len(self._contents) > 1:
            _, dropped = self._contents.popitem(last=False)
            self._kept_paths -= len(dropped.hash_parts)


def _contents(data: bytes, manifest: str) -> ClosureContents:
    paths = decode_manifest(data, manifest).paths
    listed = tuple(entry.path[:32] for entry in paths)
    return ClosureContents(
        listed=listed,
        hash_parts=frozenset(listed),
        nar_hashes=frozenset(entry.nar_hash for entry in paths),
    )


def unknown_credential(reason: str = "no such credential", actor: Actor | None = None) -> HubError:
    """Unknown, revoked, mistyped: all the same to whoever holds it."""
    return HubError(
        "credential-unknown",
        "The hub does not know this token.",
        hint="It may have been revoked, or belong to another hub. Log in again with `piste login`.",
        reason=reason,
        actor=actor,
    )
