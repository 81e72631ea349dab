"""Keys that an organization's publishers hold, and the end of any key.

The hub learns public halves only. As long as it has a key of its own for the organization it signs with that
too, so that hosts can move from one to the other; once that one is revoked its secret is gone, and the hub
can sign nothing for this organization any more.
"""

from typing import Final, Literal

import msgspec

from piste.hub.access import queries as access_queries
from piste.hub.access.records import Organization
from piste.hub.cache.records import PathRecord
from piste.hub.cache.signing import name_of
from piste.hub.db.base import ConflictError, Row, decode
from piste.hub.errors import HubError, not_found
from piste.hub.operations import queries
from piste.hub.operations.rotate import sign_again
from piste.hub.organizations import rules
from piste.hub.services import Services
from piste.hub.trail import note
from piste.nix.signature import PublicKey
from piste.wire.organizations import RevokedKey, SigningKey

_BATCH: Final = 500

Fate = Literal["keep", "drop"]


async def list_keys(services: Services, organization: Organization) -> list[SigningKey]:
    """All that sign or ever signed, the newest first."""
    rows = await access_queries.signing_keys(services.database, organization.id)
    held_by_hub = {key.name for key in (await services.keyring.keys_of(organization.id)).secret}
    return [
        SigningKey(
            str(PublicKey(row["name"], row["public"])),
            "hub" if row["name"] in held_by_hub else "publisher" if row["retired_at"] is None else "nobody",
            row["created_at"],
            row["retired_at"],
        )
        for row in rows
    ]


async def add_key(services: Services, organization: Organization, text: str) -> SigningKey:
    """Register the public half of a key that publishers hold."""
    key = rules.check_signing_key(text)
    for row in await access_queries.signing_keys(services.database, organization.id):
        if row["public"] == key.key:
            raise _used_before(row["name"])
    try:
        async with services.database.transaction() as connection:
            now = await services.keyring.add_public_key(connection, organization.id, key)
            note(f"key {key}")
    except ConflictError as error:
        raise _used_before(key.name) from error
    return SigningKey(str(key), "publisher", now)


async def revoke_key(
    services: Services, organization: Organization, name: str, fate: Fate | None
) -> RevokedKey:
    """End a key. What it signed alone keeps its signature or loses it, as `fate` says; without that the key
    is needed. Asked again, the rest of a revocation that was interrupted is done.
    """
    rows = await access_queries.signing_keys(services.database, organization.id)
    row = next((row for row in rows if row["name"] == name), None)
    if row is None:
        raise not_found()
    others = {each["name"] for each in rows if each["retired_at"] is None and each["name"] != name}
    if row["retired_at"] is None:
        if not others:
            raise HubError(
                "key-needed",
                f"{name} is the only key of {organization.name}.",
                hint="Add another first: `piste org keys add`.",
            )
        if fate is None:
            await _check_not_needed(services, organization, name, others)
        async with services.database.transaction() as connection:
            await queries.retire_key(connection, organization.id, name, services.clock())
            note(f"key {name} {fate or ''}".rstrip())
    if fate == "keep":
        return await _revoked(services, organization, row, 0, 0)
    done = await sign_again(services, organization, without=name)
    return await _revoked(services, organization, row, done.paths_signed, done.statements_signed)


async def _revoked(
    services: Services, organization: Organization, row: Row, paths: int, statements: int
) -> RevokedKey:
    left = await services.keyring.public_keys(organization.id)
    key = str(PublicKey(row["name"], row["public"]))
    return RevokedKey(key, paths, statements, [str(each) for each in left])


async def _check_not_needed(
    services: Services, organization: Organization, name: str, others: set[str]
) -> None:
    """Refuse to leave anything without a signature that a host could accept."""

    def alone(signatures: str) -> bool:
        signers = {name_of(each) for each in msgspec.json.decode(signatures, type=list[str])}
        return name in signers and not signers & others

    listed = await queries.statements_of(services.database, organization.id)
    statements = sum(alone(row["statement_signatures"] or "[]") for row in listed)
    paths = 0
    for project in await queries.projects_of(services.database, organization.id):
        last = ""
        while rows := await queries.paths_after(services.database, project, last, _BATCH):
            records = [decode(row, PathRecord) for row in rows]
            last = records[-1].hash_part
            paths += sum(record.upstream is None and alone(record.signatures) for record in records)
    if statements or paths:
        raise HubError(
            "key-needed",
            f"{name} alone has signed {statements} outputs of releases and {paths} paths.",
            hint="Publish these versions again with --signing-key-file, which adds the other key's"
            " signatures; or say what becomes of them: --signatures keep, for hosts that go on trusting the"
            " key, or --signatures drop.",
            context={"statements": str(statements), "paths": str(paths)},
        )


def _used_before(name: str) -> HubError:
    return HubError(
        "already-exists",
        f"The organization has, or had, this key or another one of its name: {name}.",
        hint="Make a new key with a new name; one that was revoked never signs again.",
    )
