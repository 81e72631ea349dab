"""Bytes on the wire for an update: deltas beside the NARs as zstd that they take the place of.

    python -m benchmarks.updates [--quick] [--only WORDS]

Two releases are published to a hub, and a host that runs the first asks for the plan of the second. The
hub's deltas are then counted against its NAR files, which are as `piste publish` compresses them. Bytes
depend on no machine, so each is counted once. Beside it the whole answer of the plan, and when all is there.

- rebuild: a closure built again after something at its bottom changed: nothing but store hashes differs.
- debian: packages of Debian in an older version and in that of the last security update, a store path each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from benchmarks._debian import updates
from benchmarks._pairs import Bound, Comparison, Kind, Limit
from benchmarks._place import QuietHub, scratch
from benchmarks._report import Options, Report, options
from benchmarks._updates import package, packages, rebuilt, release
from piste.wire.plan import PlanAnswer
from piste.wire.runs import places_of
from tests.running.closures import ATTRIBUTE, Member

_MB: Final = 1e6
_SHAPES: Final = ((300, 2_000), (300, 20_000), (1_000, 100_000))  # paths, bytes of one in the mean


@dataclass(frozen=True)
class Counted:
    """An update, in bytes."""

    deltas: int
    full: int  # of the NARs that deltas take the place of
    rest: int  # of NARs that have none
    plan: int
    seconds: float  # from the publication to the last delta


def count(hub: QuietHub, old: Sequence[Member], new: Sequence[Member]) -> Counted:
    """Publish both, and ask as a host that runs the first."""
    released = release(hub, old, new)
    acme, have = released.acme, released.base.removeprefix("sha256:")
    path = f"{acme.base}/plan/1/{ATTRIBUTE}?have={have}"
    answer = msgspec.json.decode(acme.ask("GET", path).body, type=PlanAnswer)
    assert answer.deltas is not None, "the hub made no delta"
    places = places_of(answer.sources.places)
    assert len(places) == len(answer.sources.file_sizes)
    sizes = dict(zip(places, answer.sources.file_sizes, strict=True))
    replaced = {place for offer in answer.deltas.offers for place in offer.places}
    body = acme.ask("GET", path, headers={"Accept-Encoding": "zstd"}).body
    return Counted(
        deltas=sum(offer.size for offer in answer.deltas.offers),
        full=sum(size for place, size in sizes.items() if place in replaced),
        rest=sum(size for place, size in sizes.items() if place not in replaced),
        plan=len(body),
        seconds=released.seconds,
    )


def rebuild(report: Report, chosen: Options, hub: QuietHub) -> None:
    for paths, mean in _SHAPES[: 2 if chosen.quick else 3]:
        old, new = rebuilt(paths, mean)
        found = count(hub, old, new)
        condition = f"{paths:,} paths of {mean:,} bytes in the mean"
        _tell(report, condition, found, Bound(Kind.AT_MOST, 1 / 50))


def debian(report: Report, chosen: Options, hub: QuietHub) -> None:
    found = updates()[: 4 if chosen.quick else None]
    if len(found) < (2 if chosen.quick else 11):
        print(f"  not measured: apt has {len(found)} packages in two versions", flush=True)
        return
    for each in found:
        one = count(hub, *([package(each.package, folder)] for folder in (each.old, each.new)))
        condition = f"{each.package} {each.versions[0]} → {each.versions[1]}"
        report.add(_compared(condition, one.deltas + one.rest, one.full + one.rest, Bound(Kind.AT_MOST)))
    old, new = packages(found)
    _tell(report, f"all {len(found)} packages", count(hub, old, new), Bound(Kind.AT_MOST, 1 / 3))


def _tell(report: Report, condition: str, found: Counted, bound: Bound) -> None:
    ours, theirs = found.deltas + found.rest, found.full + found.rest
    report.add(_compared(condition, ours, theirs, bound))
    report.add(Limit(condition, "answer of the plan", "MB", [found.plan / _MB]))
    report.add(Limit(condition, "until the deltas are there", "s", [found.seconds]))


def _compared(condition: str, ours: int, theirs: int, bound: Bound) -> Comparison:
    return Comparison(condition, "deltas", "NARs as zstd", "MB", bound, [(ours / _MB, theirs / _MB)])


def main() -> None:
    chosen = options(__doc__)
    report = Report("updates", "Bytes on the wire for an update.", chosen)
    for measure in (rebuild, debian):
        if not chosen.wants(measure.__name__):
            continue
        with scratch() as place, place.hub() as hub:
            report.table("Nothing but store hashes changed" if measure is rebuild else "Debian's packages")
            measure(report, chosen, hub)
    report.finish()


if __name__ == "__main__":
    main()
