"""Which older path is a new one's base, and which NARs share a delta. Pure."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from piste.wire.manifest import Manifest, ManifestPath

# A NAR up to this size shares its delta with others: a frame and a request for each cost more than most say.
SMALL: Final = 4 << 20
# What a shared delta makes, and the base that it needs; both are in memory while it is made.
GROUP_BYTES: Final = 8 << 20
GROUP_BASE_BYTES: Final = 16 << 20
GROUP_COUNT: Final = 1024
# A larger NAR is fetched whole: its delta would hold up those of others for minutes.
LARGEST: Final = 4 << 30
# Of the bytes of the files that it saves, a delta may have this much; else the files are fetched.
WORTH: Final = 0.75
# How many manifests deltas to one are made against: hosts run a few releases, and anybody may name any.
MOST_BASES: Final = 16
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
# Beyond so many comparisons paths of one name are taken one after another, the smallest first.
_COMPARISONS: Final = 250_000


class Candidate(msgspec.Struct, frozen=True):
    """A new path whose NAR the hub holds, as it holds that of its base."""

    place: int
    base_place: int
    size: int
    base_size: int
    file_size: int  # of the new one, as it would be sent


class Group(msgspec.Struct, frozen=True):
    """The NARs of one delta, in import order."""

    places: list[int]
    bases: list[int]
    renamed: bool
    file_size: int


def successors(manifest: Manifest, base: Manifest) -> dict[int, int]:
    """Place of each new path → place of the path that it most likely stands for.

    The package's name decides, without its version; then the whole name, then how near the versions are, then
    whether another one has that base already, then how alike the sizes are.
    """
    old = {entry.path for entry in base.paths}
    kept = {entry.path for entry in manifest.paths}
    by_package: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, entry in enumerate(base.paths):
        by_package[package_of(entry.path)].append(place)
    wanted: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, entry in enumerate(manifest.paths):
        if entry.path not in old:
            wanted[package_of(entry.path)].append(place)
    found: dict[int, int] = {}
    for package, places in wanted.items():
        # What is gone is likelier to have been replaced than what is still there.
        candidates = sorted(by_package.get(package, ()), key=lambda at: base.paths[at].path in kept)
        found.update(_matched(manifest.paths, places, base.paths, candidates))
    return dict(sorted(found.items()))


def package_of(base_name: str) -> tuple[str, ...]:
    """The words of a store path's name that begin with no digit: `openssl-3.0.14-bin` → openssl, bin."""
    return tuple(word for word in base_name[33:].split("-") if not word[:1].isdigit())


def version_of(base_name: str) -> list[int]:
    """The numbers in the words of a store path's name that begin with a digit: `openssl-3.0.14-bin` → 3, 0,
    14."""
    words = (word for word in base_name[33:].split("-") if word[:1].isdigit())
    return [int(digits) for word in words for digits in _DIGITS.findall(word)]


def _apart(one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """How far two versions are from one another: in which number they differ first, and by how much."""
    for place, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return -place, abs(mine - yours)
    return -min(len(one), len(other)), 0


def groups(candidates: Sequence[Candidate]) -> list[Group]:
    """The deltas to be made: small NARs together, then each large one by itself."""
    small = [each for each in candidates if max(each.size, each.base_size) <= SMALL]
    large = [each for each in candidates if SMALL < max(each.size, each.base_size) <= LARGEST]
    shared: list[list[Candidate]] = []
    room = base_room = 0
    for each in small:
        if each.size > room or each.base_size > base_room or len(shared[-1]) == GROUP_COUNT:
            shared.append([])
            room, base_room = GROUP_BYTES, GROUP_BASE_BYTES
        shared[-1].append(each)
        room -= each.size
        base_room -= each.base_size
    return [_group(each, renamed=True) for each in shared] + [_group([each], renamed=False) for each in large]


def _group(members: Sequence[Candidate], *, renamed: bool) -> Group:
    return Group(
        places=[each.place for each in members],
        bases=[each.base_place for each in members],
        renamed=renamed,
        file_size=sum(each.file_size for each in members),
    )


def _matched(
    paths: Sequence[ManifestPath],
    places: Sequence[int],
    base_paths: Sequence[ManifestPath],
    candidates: Sequence[int],
) -> dict[int, int]:
    """For the paths of one package: first those of the same name among themselves."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for at in candidates:
        by_name[base_paths[at].path[33:]].append(at)
    pools: dict[str, list[int]] = defaultdict(list)
    for place in places:
        pools[paths[place].path[33:]].append(place)
    taken: dict[int, int] = dict.fromkeys(candidates, 0)
    found: dict[int, int] = {}
    for name in sorted(pools, key=lambda name: name not in by_name):
        pool = by_name.get(name, candidates)
        if not pool:
            continue
        if len(pools[name]) * len(pool) > _COMPARISONS:
            new = sorted(pools[name], key=lambda place: paths[place].nar_size)
            old = sorted(pool, key=lambda at: base_paths[at].nar_size)
            found.update(zip(new, old, strict=False))
            continue
        versions = {at: version_of(base_paths[at].path) for at in pool}
        for place in pools[name]:
            size, version = paths[place].nar_size, version_of(paths[place].path)
            found[place] = min(
                pool,
                key=lambda at: (
                    _apart(versions[at], version),
                    taken[at],
                    abs(base_paths[at].nar_size - size),
                ),
            )
            taken[found[place]] += 1
    return found
