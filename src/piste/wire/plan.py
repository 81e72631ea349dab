"""The plan: in one answer all that a host needs to know before it fetches. Format `piste-plan-1`.

A resolution with its token, the manifest (or what is new in it, relative to one that the host named), where
the NARs of the missing paths are and who signed them, and the deltas that there are. Hashes and signatures
are what remains of it once it is compressed, so each kind stands in a column of its own, in characters that
an entropy coder brings down to their bits.

A host believes the manifest because it is rebuilt here and has the digest that the signed statement names;
it believes nothing else of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from piste.nix.base32 import ALPHABET
from piste.nix.store_path import STORE_DIR
from piste.wire.deltas import Deltas
from piste.wire.manifest import FORMAT as MANIFEST_FORMAT
from piste.wire.manifest import (
    Manifest,
    ManifestError,
    ManifestPath,
    check_manifest,
    digest_of_pieces,
    manifest_pieces,
)
from piste.wire.resolution import NarSource, Resolution
from piste.wire.runs import Runs, pairs_of, runs_of

FORMAT: Final = "piste-plan-1"
# How many releases a host may name as what it runs.
HAVE_LIMIT: Final = 8
_HASH_PART: Final = 32
_NAR_HASH: Final = 52
_HASH_PREFIX: Final = "sha256:"
SIGNATURE: Final = 86  # base64 of 64 bytes, without the `==` at its end
_NEW: Final = -1
# Python reads base 32 with 0-9a-v.
_DIGITS: Final = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")


class PlanRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a host says of itself, none of which it has to."""

    have: list[str] = []  # sha256:<hex>: manifests of releases that it runs, the one to build upon first
    paths: bytes | None = None  # `pack_paths` of what is in its store, where it knows of no release


class PackedManifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A manifest in columns; entries that the base has too are only numbered."""

    order: list[int]  # pairs: place in the base and how many from there on, or -1 and how many new ones
    hash_parts: str  # of the new entries, as all that follow; 32 characters each
    names: str  # one a line
    nar_hashes: str  # 52 characters each, without `sha256:`
    nar_sizes: list[int]
    references: list[list[int]]  # how far each stands before its entry; 0: the path refers to itself
    content_addresses: dict[int, str] = {}  # by place in the manifest
    base: str | None = None  # sha256:<hex>, one of those that the host named


class PackedSources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the NARs at some places of a manifest are, and who vouches for their paths."""

    places: list[int]  # pairs: a place and how many from there on
    file_sizes: list[int]  # -1: not known
    signers: list[list[str]]  # lists of names of keys
    signed_by: list[int]  # for each path, which of these lists: pairs of a number and how many in a row
    signatures: str  # of each path, one for each of its signers; 86 characters each, without `==`
    urls: dict[int, str] = {}  # by place, where it is not the project's cache; absolute
    compressions: dict[int, str] = {}  # by place, where it is not zstd
    others: dict[int, list[str]] = {}  # by place: signatures of another form


class PlanAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    format: str
    resolution: Resolution  # with its token
    manifest: PackedManifest
    # Of missing paths, in import order; of the first of them where there are very many. What is not among
    # them is asked for at `manifest/<hex>/sources?places=`, which answers PackedSources.
    sources: PackedSources
    deltas: Deltas | None = None  # against the manifest that is the packed one's base


def pack_manifest(manifest: Manifest, base: tuple[str, Manifest] | None = None) -> PackedManifest:
    """`base` is a manifest's digest and the manifest."""
    digest, held = base or (None, None)
    known = {entry.path: place for place, entry in enumerate(held.paths)} if held is not None else {}
    order = Runs(steps=True)
    new: list[int] = []
    for place, entry in enumerate(manifest.paths):
        at = known.get(entry.path, _NEW)
        if held is None or at == _NEW or not _same(manifest, place, held, at):
            new.append(place)
            at = _NEW
        order.add(at)
    entries = [manifest.paths[place] for place in new]
    return PackedManifest(
        order=order.pairs,
        hash_parts="".join(entry.path[:_HASH_PART] for entry in entries),
        names="\n".join(entry.path[_HASH_PART + 1 :] for entry in entries),
        nar_hashes="".join(entry.nar_hash.removeprefix(_HASH_PREFIX) for entry in entries),
        nar_sizes=[entry.nar_size for entry in entries],
        references=[[place - one for one in manifest.paths[place].references] for place in new],
        content_addresses={
            place: manifest.paths[place].content_address or ""
            for place in new
            if manifest.paths[place].content_address is not None
        },
        base=digest,
    )


def unpack_manifest(packed: PackedManifest, digest: str, bases: Mapping[str, Manifest]) -> Manifest:
    """The manifest `digest`; `bases` are those that the host named. ManifestError says what is wrong."""
    if packed.base is not None and packed.base not in bases:
        raise ManifestError("it builds upon a manifest that was not named")
    held = bases[packed.base].paths if packed.base is not None else []
    try:
        manifest = Manifest(MANIFEST_FORMAT, STORE_DIR, _entries(packed, held))
    except (IndexError, KeyError, ValueError) as error:
        raise ManifestError("the packed manifest does not hold together") from error
    if digest_of_pieces(manifest_pieces(manifest)) != digest:
        raise ManifestError("the manifest does not have the digest that was promised")
    return check_manifest(manifest)


def pack_sources(places: Sequence[int], sources: Sequence[NarSource]) -> PackedSources:
    """The sources of the paths at these places, in that order."""
    lists: dict[tuple[str, ...], int] = {}
    signed_by = Runs(steps=False)
    signatures: list[str] = []
    others: dict[int, list[str]] = {}
    for place, source in zip(places, sources, strict=True):
        plain = [_split(text) for text in source.signatures]
        usual = [(name, signature) for name, signature in plain if name]
        odd = [text for text, (name, _) in zip(source.signatures, plain, strict=True) if not name]
        names = tuple(name for name, _ in usual)
        signed_by.add(lists.setdefault(names, len(lists)))
        signatures.extend(signature for _, signature in usual)
        if odd:
            others[place] = odd
    each = list(zip(places, sources, strict=True))
    return PackedSources(
        places=runs_of(places),
        file_sizes=[-1 if source.file_size is None else source.file_size for source in sources],
        signers=[list(names) for names in lists],
        signed_by=signed_by.pairs,
        signatures="".join(signatures),
        urls={place: source.url for place, source in each if "://" in source.url},
        compressions={place: source.compression for place, source in each if source.compression != "zstd"},
        others=others,
    )


def pack_paths(hash_parts: Iterable[str]) -> bytes:
    """What is in a store, in some three bytes a path: the first 32 bits of each hash part, sorted, as their
    distances. One of 10,000 paths is taken for another once in forty times; then the host asks again for it.
    """
    packed = bytearray()
    last = 0
    for number in sorted({short_hash(part) for part in hash_parts}):
        step = number - last
        last = number
        while step > 127:
            packed.append(128 | step & 127)
            step >>= 7
        packed.append(step)
    return bytes(packed)


def unpack_paths(packed: bytes) -> Iterator[int]:
    """The numbers that `short_hash` gives. Bytes that mean nothing give numbers that match nothing."""
    last = step = shift = 0
    for byte in packed:
        step |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 32:
            last += step
            yield last
            step = shift = 0


def short_hash(hash_part: str) -> int:
    """32 bits of a store path's hash part."""
    return int(hash_part[:7].translate(_DIGITS), 32) >> 3


def _entries(packed: PackedManifest, held: Sequence[ManifestPath]) -> list[ManifestPath]:
    order = [
        start if start == _NEW else start + step
        for start, count in pairs_of(packed.order)
        for step in range(count)
    ]
    there = {at: place for place, at in enumerate(order) if at != _NEW}
    each = list(range(len(order)))  # one number for all that refer to a place
    names = packed.names.split("\n")
    entries: list[ManifestPath] = []
    number = 0
    for place, at in enumerate(order):
        if at != _NEW:
            entry = held[at]
            moved = sorted(there[reference] for reference in entry.references)
            # Where nothing moved, both manifests have the one entry.
            entries.append(
                entry if moved == entry.references else msgspec.structs.replace(entry, references=moved)
            )
            continue
        part = packed.hash_parts[number * _HASH_PART : (number + 1) * _HASH_PART]
        nar_hash = packed.nar_hashes[number * _NAR_HASH : (number + 1) * _NAR_HASH]
        entries.append(
            ManifestPath(
                f"{part}-{names[number]}",
                _HASH_PREFIX + nar_hash,
                packed.nar_sizes[number],
                [each[place - distance] for distance in packed.references[number]],
                packed.content_addresses.get(place),
            )
        )
        number += 1
    return entries


def _same(manifest: Manifest, place: int, held: Manifest, at: int) -> bool:
    """Whether two entries of one store path say the same."""
    one, other = manifest.paths[place], held.paths[at]
    if (one.nar_hash, one.nar_size, one.content_address) != (
        other.nar_hash,
        other.nar_size,
        other.content_address,
    ):
        return False
    return {manifest.paths[each].path for each in one.references} == {
        held.paths[each].path for each in other.references
    }


def _split(signature: str) -> tuple[str, str]:
    """A name and 86 characters; an empty name where it has another form."""
    name, _, text = signature.partition(":")
    if len(text) != SIGNATURE + 2 or not text.endswith("=="):
        return "", ""
    return name, text[:SIGNATURE]
