"""Whether an upstream's word for a path holds: its narinfo, signed by a key that the organization trusts.
Pure.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from piste.hub.cache.records import PathRecord
from piste.nix.narinfo import NarInfo, NarInfoError, PathInfo, parse_narinfo
from piste.nix.signature import PublicKey, SignatureKeyError, verify_any


def pinned_info(info: PathInfo, narinfo_text: str, public_keys: Iterable[str]) -> PathInfo | None:
    """The path as its upstream vouches for it; None when the upstream's word does not hold or differs, and
    the NAR has to be uploaded.
    """
    theirs = vouched_info(narinfo_text, public_keys)
    if theirs is None:
        return None
    same = (
        theirs.path == info.path
        and theirs.nar_hash == info.nar_hash
        and theirs.nar_size == info.nar_size
        and theirs.references == info.references
    )
    return theirs if same else None


def vouched_info(narinfo_text: str, public_keys: Iterable[str]) -> PathInfo | None:
    """What a narinfo says of its path; None unless one of the keys has signed that."""
    try:
        narinfo = parse_narinfo(narinfo_text)
        keys = [PublicKey.parse(text) for text in public_keys]
    except (NarInfoError, SignatureKeyError):
        return None
    info = narinfo.info
    if not _stays_below(narinfo) or verify_any(keys, info.fingerprint(), info.signatures) is None:
        return None
    return info


def pinned_record(
    base_name: str, upstream: str, narinfo_text: str, public_keys: Iterable[str]
) -> PathRecord | None:
    """The row of a path as an upstream vouches for it; None when its word does not hold or is for another."""
    info = vouched_info(narinfo_text, public_keys)
    if info is None or info.path.base_name != base_name:
        return None
    return msgspec.structs.replace(PathRecord.of(info), upstream=upstream, upstream_narinfo=narinfo_text)


def _stays_below(narinfo: NarInfo) -> bool:
    """Whether the NAR's address is one below the upstream's: it isn't signed, and clients are sent there."""
    url = urlsplit(narinfo.url)
    plain = re.fullmatch(r"[A-Za-z0-9._~/=+%,-]+", url.path) is not None and "%" not in url.path
    parts = url.path.split("/")
    return not (url.scheme or url.netloc or url.fragment) and plain and not {"", "..", "."} & set(parts)
