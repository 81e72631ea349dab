"""Moving an organization from one signing key to the next: add a key, sign everything with both, tell the
hosts, and only then retire the old one. Nothing is ever without a valid signature in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from piste.hub.access import queries as access_queries
from piste.hub.access.records import Organization
from piste.hub.cache import queries as cache_queries
from piste.hub.cache.records import FurtherSigned, PathRecord
from piste.hub.db.base import decode
from piste.hub.errors import HubError
from piste.hub.operations import queries
from piste.hub.operations.seal import seal_secrets
from piste.hub.registry import queries as registry_queries
from piste.hub.services import Services
from piste.hub.trail import note
from piste.nix.signature import SecretKey

_BATCH: Final = 500


@dataclass(frozen=True)
class Rotated:
    """`public_keys` are those that hosts should trust now, the newest first."""

    organization: str
    public_keys: list[str]
    paths_signed: int
    statements_signed: int


async def rotate(services: Services, name: str) -> Rotated:
    """Add a key and sign everything with it as well."""
    organization = await _with_own_keys(services, name)
    await seal_secrets(services)  # fails with the wrong key, before there is a key that nobody else can open
    async with services.database.transaction() as connection:
        made = await services.keyring.add_key(connection, organization.id, organization.name)
        note(f"signing key {made.name}", organization=organization)
    return await sign_again(services, organization)


async def retire(services: Services, name: str, key: str) -> Rotated:
    """Take a key's signatures away. Hosts that trust no other one will refuse what they fetch from now on."""
    organization = await _with_own_keys(services, name)
    held = await services.keyring.public_keys(organization.id)
    if key not in [each.name for each in held]:
        raise HubError("not-found", f"{organization.name} has no key {key} that signs.")
    if len(held) == 1:
        raise HubError(
            "bad-request", f"{key} is the only key.", hint="Rotate first: `piste hub keys rotate`."
        )
    async with services.database.transaction() as connection:
        await queries.retire_key(connection, organization.id, key, services.clock())
        note(f"signing key {key} retired", organization=organization)
    return await sign_again(services, organization, without=key)


@dataclass(frozen=True)
class RotatedTokenKey:
    key: int
    ended: int


async def rotate_token_key(services: Services, *, at_once: bool) -> RotatedTokenKey:
    """Make closure tokens with a new key from now on, and let the older ones end."""
    await seal_secrets(services)
    note("key of closure tokens" + (", the older ones ended at once" if at_once else ""))
    return RotatedTokenKey(*await services.closures.rotate_keys(at_once=at_once))


async def sign_again(
    services: Services, organization: Organization, *, without: str | None = None
) -> Rotated:
    """Sign what lacks a signature of a key that signs now. Runs twice, since a publication may have been
    under way that had read the keys before."""
    keys = await services.keyring.signing_keys(organization.id)
    paths = statements = 0
    for _ in range(2):
        for project in await queries.projects_of(services.database, organization.id):
            paths += await _sign_paths(services, project, keys, without)
        statements += await _sign_statements(services, organization.id, keys, without)
    public = await services.keyring.public_keys(organization.id)
    return Rotated(organization.name, [str(key) for key in public], paths, statements)


def signatures_now(
    text: str, held: Sequence[str], keys: Sequence[SecretKey], without: str | None
) -> list[str]:
    """The signatures over a text: those of all keys first, then what was there of others."""
    by_name = {signature.partition(":")[0]: signature for signature in held}
    ours = [by_name.get(key.name) or key.sign(text) for key in keys]
    dropped = {without, *(key.name for key in keys)}
    return [*ours, *(signature for signature in held if signature.partition(":")[0] not in dropped)]


async def _sign_paths(
    services: Services, project: str, keys: Sequence[SecretKey], without: str | None
) -> int:
    last, count = "", 0
    while rows := await queries.paths_after(services.database, project, last, _BATCH):
        records = [decode(row, PathRecord) for row in rows]
        last = records[-1].hash_part

        def sign(batch: list[PathRecord] = records) -> list[FurtherSigned]:
            changed = []
            for record in batch:
                signed = signatures_now(record.info().fingerprint(), record.all_signatures, keys, without)
                if signed != record.all_signatures:
                    encoded = msgspec.json.encode(signed).decode()
                    changed.append(FurtherSigned(project, record.hash_part, encoded, record.signatures))
            return changed

        if changed := await services.workers.run(sign):
            async with services.database.transaction() as connection:
                await cache_queries.replace_signatures(connection, changed)
        count += len(changed)
    return count


async def _sign_statements(
    services: Services, organization: str, keys: Sequence[SecretKey], without: str | None
) -> int:
    changed = []
    for row in await queries.statements_of(services.database, organization):
        held = msgspec.json.decode(row["statement_signatures"] or "[]", type=list[str])
        signed = await services.workers.run(signatures_now, row["statement"], held, keys, without)
        if signed != held:
            encoded = msgspec.json.encode(signed).decode()
            changed.append((row["release"], row["attribute"], encoded, row["statement_signatures"]))
    for start in range(0, len(changed), _BATCH):
        async with services.database.transaction() as connection:
            await registry_queries.replace_statement_signatures(connection, changed[start : start + _BATCH])
    return len(changed)


async def _with_own_keys(services: Services, name: str) -> Organization:
    """An organization that leaves its keys with the hub: for no other may the hub have a key again."""
    found = await access_queries.organization_by_name(services.database, name)
    if found is None:
        raise HubError("not-found", f"There is no organization {name}.")
    if (await services.keyring.keys_of(found.id)).publishers:
        raise HubError(
            "publisher-holds-keys",
            f"The publishers of {found.name} hold its keys; the hub makes none for it.",
            hint=f"`piste org keys list {found.name}` shows them; `add` and `revoke` change them.",
        )
    return found
