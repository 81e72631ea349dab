"""Who signs a publication: the hub with the keys that it holds, the publisher with those that it named.

The publisher's signatures are verified here against the keys that the organization registered. Nothing here
can make one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from piste.hub.access import queries as access_queries
from piste.hub.access.keys import SigningKeys
from piste.hub.cache.signing import valid_signatures
from piste.hub.db.base import Connection
from piste.hub.errors import HubError
from piste.nix.signature import PublicKey
from piste.wire.publication import Finish


@dataclass(frozen=True)
class Signers:
    keys: SigningKeys
    asked: Sequence[PublicKey]  # those that this publisher signs with; empty where the hub alone signs
    brought: Mapping[str, Sequence[str]]  # text -> signatures, as they were sent

    def signatures(self, texts: Iterable[str]) -> dict[str, list[str]] | None:
        """The publisher's signatures of each text; None when there are texts that it has not signed. CPU
        work: call it in a thread.
        """
        wanted = list(texts)
        if any(text not in self.brought for text in wanted):
            return None
        return {text: self._verified(text) for text in wanted}

    def _verified(self, text: str) -> list[str]:
        found = valid_signatures(text, self.brought[text], self.asked)
        if len(found) < len(self.asked):
            names = ", ".join(key.name for key in self.asked)
            raise HubError("bad-signature", f"A statement is not signed by {names}, as was promised.")
        return found


def signers_of(keys: SigningKeys, said: Finish) -> Signers:
    """Who signs; HubError when that is nobody, or one whom the organization does not know."""
    by_name = {key.name: key for key in keys.publishers}
    names = list(dict.fromkeys(said.signing_keys))
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise unknown_key(", ".join(unknown)[:300])
    if not keys.secret and not names:
        raise HubError(
            "signing-key-missing",
            "The organization keeps its keys to itself, so the hub can't sign this release.",
            hint="Publish with --signing-key-file.",
        )
    return Signers(
        keys, [by_name[name] for name in names], {one.text: one.signatures for one in said.statements}
    )


async def check_keys(connection: Connection, organization: str, signers: Signers) -> None:
    """Refuse a key that was revoked since its signatures were made."""
    rows = await access_queries.signing_keys(connection, organization)
    now = {row["name"] for row in rows if row["retired_at"] is None}
    names = [key.name for key in signers.keys.secret] + [key.name for key in signers.asked]
    if gone := [name for name in names if name not in now]:
        raise unknown_key(", ".join(gone))


def unknown_key(names: str) -> HubError:
    """The organization has no such keys, or has revoked them."""
    return HubError(
        "signing-key-unknown",
        f"{names} signs nothing for this organization.",
        hint="An admin registers its public half with `piste org keys add`; a key that was revoked stays so.",
    )
