"""Signatures on what a project says of its paths: the organization's own, made here or by its publishers, and
others'.
"""

from collections.abc import Iterable, Sequence

from piste.hub.cache.records import NewPath, PathRecord
from piste.hub.errors import HubError
from piste.nix.signature import PublicKey, SecretKey


def new_paths(
    records: Iterable[PathRecord], keys: Sequence[SecretKey], public: Sequence[PublicKey]
) -> list[NewPath]:
    """Each path with all signatures that are served. CPU work of some 55 us a key and path: call it in a
    thread.
    """
    return [NewPath(record, _signatures(record, keys, public)) for record in records]


def _signatures(record: PathRecord, keys: Sequence[SecretKey], public: Sequence[PublicKey]) -> list[str]:
    fingerprint = record.info().fingerprint()
    by_name = {key.name: key for key in public}
    ours = [key.sign(fingerprint) for key in keys]
    made_here = {key.name for key in keys}
    given = []
    for signature in record.all_signatures:
        name = signature.partition(":")[0]
        if name in made_here:
            continue
        key = by_name.get(name)
        # In the organization's own name only what holds is passed on; of others the client thinks for itself.
        if key is None or key.verify(fingerprint, signature):
            given.append(signature)
    vouched = record.upstream is not None or any(each.partition(":")[0] in by_name for each in given)
    if not keys and not vouched:
        raise HubError(
            "bad-path-info",
            f"{record.base_name} is not signed by a key of the organization.",
            hint="The organization keeps its keys to itself: publish with --signing-key-file.",
        )
    return [*ours, *dict.fromkeys(given)]
