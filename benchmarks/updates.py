"""Bytes on the wire for an update: deltas beside the NARs as zstd that they take the place of.

    python -m benchmarks.updates [--quick] [--only WORDS]

Two releases are published to a hub, and a host that runs the first asks for the plan of the second. The
hub's deltas are then counted against its NAR files, which are as `piste publish` compresses them. Bytes
depend on no machine, so each is counted once. Beside it the whole answer of the plan, and when all is there.

- rebuild: a closure built again after something at its bottom changed: nothing but store hashes differs.
- debian: packages of Debian in an older version and in that of the last security update, a store path each.
"""

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks._debian import updates
from benchmarks._pairs import Bound, Comparison, Kind, Limit
from benchmarks._place import QuietHub, scratch
from benchmarks._report import Options, Report, options
from piste.host.stored_nar import StoredNar
from piste.lib.zstd import zstd
from piste.wire.plan import PlanAnswer
from piste.wire.runs import places_of
from tests.hub.process import wait_for
from tests.hub.publishing import Acme
from tests.running.closures import ATTRIBUTE, Member, file_nar, frame, member, new_path

_LEVEL: Final = 3  # of `piste publish`
_MB: Final = 1e6
_WAIT: Final = 600.0
_SHAPES: Final = ((300, 2_000), (300, 20_000), (1_000, 100_000))  # paths, bytes of one in the mean
_LINES: Final = [
    b"    if (value_%d > limit) { return handle(value_%d, flags); }" % (n, n) for n in range(400)
]


@dataclass(frozen=True)
class Counted:
    """An update, in bytes."""

    deltas: int
    full: int  # of the NARs that deltas take the place of
    rest: int  # of NARs that have none
    plan: int
    seconds: float  # from the publication to the last delta


def publish(acme: Acme, version: str, members: Sequence[Member]) -> None:
    """A release, its NARs compressed as `piste publish` does it."""
    filling = acme.open(version)
    filling.declare(members, {ATTRIBUTE: members[-1]})
    waiting: list[bytes] = []
    for each in members:
        if each.path.base_name not in filling.missing:
            continue
        waiting.append(frame(each.nar_hash, zstd.compress(each.nar, level=_LEVEL)))
        if len(waiting) == 200 or sum(map(len, waiting)) > 8 << 20:
            assert filling.upload(*waiting).status == 200
            waiting = []
    if waiting:
        assert filling.upload(*waiting).status == 200
    filling.source()
    answer = filling.finish()
    assert answer.status == 200, answer.body


def count(hub: QuietHub, old: Sequence[Member], new: Sequence[Member]) -> Counted:
    """Publish both, and ask as a host that runs the first."""
    acme = Acme(hub)
    publish(acme, "1.0.0", old)
    have = acme.resolve("=1.0.0").json()["manifest"].removeprefix("sha256:")
    publish(acme, "1.1.0", new)
    started = time.monotonic()
    path = f"{acme.base}/plan/1/{ATTRIBUTE}?have={have}"
    target = acme.resolve("=1.1.0").json()["manifest"]
    wait_for(lambda: _all_made(hub, target), _WAIT)
    seconds = time.monotonic() - started
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
        seconds=seconds,
    )


def _all_made(hub: QuietHub, target: str) -> bool:
    """As the hub's own rows tell; hosts are told only of what is there."""
    with closing(sqlite3.connect(f"file:{hub.data / 'piste.sqlite'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT size FROM delta WHERE target = ?", (target,)).fetchall()
    return bool(rows) and all(size is not None for (size,) in rows)


def rebuilt(paths: int, mean: int) -> Iterator[list[Member]]:
    """A closure, and the same with another hash for each path; each names what it refers to some times."""
    for build in (1, 2):
        draw = random.Random(7)
        made: list[Member] = []
        for number in range(paths):
            below = draw.sample(made[-60:], min(len(made), draw.randint(1, 6)))
            size = int(min(draw.expovariate(1 / mean), 8 * mean))
            lines = _text(draw, size) if draw.random() < 0.5 else _binary(draw, size)
            own = new_path(f"part-{number}", (build, number))
            for path in [own, *(each.path for each in below)]:
                for _ in range(draw.randint(1, 4)):
                    lines.insert(draw.randrange(len(lines) + 1), f"{path}/bin/something".encode())
            references = tuple(sorted([own, *(each.path for each in below)]))
            made.append(Member(own, file_nar(b"\n".join(lines)), references))
        top = member("system", build, b"", [each.path for each in made])
        yield [*made, top]


def _text(draw: random.Random, size: int) -> list[bytes]:
    return [draw.choice(_LINES) for _ in range(size // len(_LINES[0]))]


def _binary(draw: random.Random, size: int) -> list[bytes]:
    """Half of it can be compressed away."""
    return [draw.randbytes(200) + bytes(200) for _ in range(size // 400)]


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
        one = count(hub, *([_package(each.package, folder)] for folder in (each.old, each.new)))
        condition = f"{each.package} {each.versions[0]} → {each.versions[1]}"
        report.add(_compared(condition, one.deltas + one.rest, one.full + one.rest, Bound(Kind.AT_MOST)))
    old, new = (
        _together([_package(each.package, folder) for each, folder in pairs])
        for pairs in ([(each, each.old) for each in found], [(each, each.new) for each in found])
    )
    _tell(report, f"all {len(found)} packages", count(hub, old, new), Bound(Kind.AT_MOST, 1 / 3))


def _package(name: str, folder: Path) -> Member:
    stored = StoredNar(folder)
    return Member(new_path(name, str(folder)), bytes(stored.read(0, stored.size)), ())


def _together(members: list[Member]) -> list[Member]:
    paths = [each.path for each in members]
    return [*members, member("system", tuple(map(str, paths)), b"", paths)]


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
