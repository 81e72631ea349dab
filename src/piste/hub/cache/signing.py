"""Signatures on what a project says of its paths: the organization's own, made here or by its publishers, and
others'.
"""

from collections.abc import Iterable, Sequence

import msgspec

from piste.hub.access.keys import SigningKeys
from piste.hub.cache.records import PathRecord
from piste.hub.errors import HubError
from piste.nix.signature import PublicKey


def new_paths(records: Iterable[PathRecord], keys: SigningKeys) -> list[PathRecord]:
    """Each path with all signatures that are served, and none but these. CPU work of some 55 us a key and
    path: call it in a thread.
    """
    return [
        msgspec.structs.replace(record, signatures=msgspec.json.encode(_signatures(record, keys)).decode())
        for record in records
    ]


def valid_signatures(text: str, signatures: Iterable[str], keys: Sequence[PublicKey]) -> list[str]:
    """Those that one of the keys has made over the text, each once."""
    by_name = {key.name: key for key in keys}
    found = []
    for signature in dict.fromkeys(signatures):
        key = by_name.get(signature.partition(":")[0])
        if key is not None and key.verify(text, signature):
            found.append(signature)
    return found


def signed_further(held: PathRecord, given: PathRecord, keys: SigningKeys) -> list[str]:
    """The signatures of a path that the project has, with those that its publishers bring for it now. Where
    the hub can't sign, one of them has to be there.
    """
    publishers = keys.publishers
    already = {name_of(signature) for signature in held.all_signatures}
    wanted = [key for key in publishers if key.name not in already]
    brought = [each for each in given.all_signatures if name_of(each) not in already]
    # Said of the same content only: what was declared of other bytes holds for those alone.
    more = valid_signatures(held.info().fingerprint(), brought, wanted) if brought and wanted else []
    if not keys.secret and held.upstream is None and not more:
        _require(held, already & {key.name for key in publishers})
    return [*held.all_signatures, *more]


def name_of(signature: str) -> str:
    """The name of the key that a signature says it is by."""
    return signature.partition(":")[0]


def served_signatures(fingerprint: str, given: Iterable[str], keys: SigningKeys) -> list[str]:
    """The hub's own, and of those that came along all that may be passed on."""
    by_name = {key.name: key for key in keys.public}
    ours = [key.sign(fingerprint) for key in keys.secret]
    made_here = {key.name for key in keys.secret}
    others = []
    for signature in given:
        name = name_of(signature)
        if name in made_here or name in keys.revoked:
            continue
        key = by_name.get(name)
        # In the organization's own name only what holds is passed on; of others the client thinks for itself.
        if key is None or key.verify(fingerprint, signature):
            others.append(signature)
    return [*ours, *dict.fromkeys(others)]


def _signatures(record: PathRecord, keys: SigningKeys) -> list[str]:
    served = served_signatures(record.info().fingerprint(), record.all_signatures, keys)
    if not keys.secret and record.upstream is None:
        _require(record, {name_of(each) for each in served} & {key.name for key in keys.public})
    return served


def _require(record: PathRecord, signers: Iterable[str]) -> None:
    if not list(signers):
        raise HubError(
            "bad-path-info",
            f"{record.base_name} is not signed by a key of the organization.",
            hint="The organization keeps its keys to itself: publish with --signing-key-file.",
        )
