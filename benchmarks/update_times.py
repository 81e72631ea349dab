"""A host that has the release before updates: with the hub's deltas, and without.

    python -m benchmarks.update_times [--quick] [--only WORDS]

The whole command counts, the start of its interpreter too, and all bytes that pass the line. Each run begins
with a copy of one state: a host that fetched the older release over the same line, and found out how fast it
is. Without deltas is the same host, which remembers the line as too fast for any. On a line without a limit
it decides by itself, and may not lose by that.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from benchmarks._debian import updates
from benchmarks._latency import MBIT, Line
from benchmarks._measure import timed
from benchmarks._pairs import Bound, Comparison, Kind, Limit, Side, compare
from benchmarks._place import Place, QuietHub, scratch
from benchmarks._report import Options, Report, options
from benchmarks._updates import OLD, packages, rebuilt, release
from examples.demo.scratch import remove
from tests.running.closures import ATTRIBUTE, Member
from tests.running.command import Person, check
from tests.running.tenants import Tenant

_NOTES: Final = "var/cache/piste/releases/notes.json"
_TOO_FAST: Final = 1e15  # bytes a second: no delta is worth its work
_MB: Final = 1e6
_FASTER: Final = Bound(Kind.FASTER, 1)
_NO_SLOWER: Final = Bound(Kind.AT_MOST, 1.1)


@dataclass(frozen=True)
class Condition:
    """A line, and what is promised on it."""

    name: str
    trip: float
    bandwidth: float | None
    bound: Bound


_CONDITIONS: Final = (
    Condition("100 Mbit/s", 0.0, 100 * MBIT, _FASTER),
    Condition("100 Mbit/s, 20 ms", 0.02, 100 * MBIT, _FASTER),
    Condition("500 Mbit/s", 0.0, 500 * MBIT, _NO_SLOWER),
    Condition("1 Gbit/s", 0.0, 1000 * MBIT, _NO_SLOWER),
    Condition("no limit", 0.0, None, _NO_SLOWER),
)


@dataclass
class Bench:
    """A hub with an update, and a host with the older release at the other end of a line."""

    place: Place
    line: Line
    tenant: Tenant
    members: Sequence[Member]  # of the newer release
    state: Person
    megabytes: dict[str, list[float]] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """What the host found out of the line, in MB/s."""
        found: float = json.loads((self.state.root / _NOTES).read_text())["speed"]
        return found / _MB

    def side(self, name: str, *, deltas: bool) -> Side:
        return Side(name, partial(self._once, name, deltas))

    def _once(self, name: str, deltas: bool) -> float:
        """One update of the host as it was, which has to hold all of the closure afterwards."""
        folder = self.place.new("host")
        subprocess.run(["cp", "--archive", str(self.state.folder), str(folder)], check=True)
        person = Person(folder, self.state.hub, self.state.token, extra=self.state.extra)
        try:
            if not deltas:
                notes = person.root / _NOTES
                notes.write_text(json.dumps({**json.loads(notes.read_text()), "speed": _TOO_FAST}))
            before = self.line.passed
            seconds = timed(partial(_fetch, person, self.tenant, "1"))
            self.megabytes.setdefault(name, []).append((self.line.passed - before) / _MB)
            held = check(person.run("nix-store", "-qR", str(self.members[-1].path))).split()
            if set(held) != {str(each.path) for each in self.members}:
                raise SystemExit("what was fetched is not the closure of the update")
        finally:
            remove(folder)
        return seconds


def _fetch(person: Person, tenant: Tenant, requirement: str) -> None:
    link = str(person.folder / "result")
    person.succeed("fetch", f"{tenant.name}/{requirement}#{ATTRIBUTE}", link, "--json")


@contextmanager
def bench_of(
    place: Place, hub: QuietHub, tenant: Tenant, members: Sequence[Member], condition: Condition
) -> Iterator[Bench]:
    """A host of its own for each line, since it remembers what it found out of one."""
    with Line(condition.trip, condition.bandwidth) as line, place.person() as state:
        line.target = int(hub.listen.rpartition(":")[2])
        hub.options = ("--public-url", line.url)
        hub.stop()
        hub.start()
        state.hub, state.token = line.url, tenant.resolve_only("1", ATTRIBUTE)
        state.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(tenant.key)}
        _fetch(state, tenant, f"={OLD}")
        yield Bench(place, line, tenant, members, state)


def measure(report: Report, chosen: Options, bench: Bench, condition: Condition, least: float) -> None:
    """Both in pairs: their seconds, and what passed the line. `least` is how many times fewer bytes deltas
    have to take where they are taken."""
    by_deltas = condition.bound is _FASTER
    ours, theirs = "with deltas" if by_deltas else "as the host decides", "without"
    sides = bench.side(ours, deltas=True), bench.side(theirs, deltas=False)
    report.add(compare(*sides, condition.bound, condition=condition.name, pairs=chosen.pairs))
    passed = list(zip(bench.megabytes[ours], bench.megabytes[theirs], strict=True))
    bound = Bound(Kind.AT_MOST, 1 / least if by_deltas else None)
    report.add(Comparison(condition.name, ours, theirs, "MB", bound, passed))
    report.add(Limit(condition.name, "speed that the host remembers", "MB/s", [bench.speed]))


@dataclass(frozen=True)
class Update:
    """What is measured under all conditions."""

    title: str
    old: Sequence[Member]
    new: Sequence[Member]
    least: float


def debian(quick: bool) -> Update | None:
    found = updates()[: 4 if quick else None]
    if len(found) < (2 if quick else 11):
        print(f"  not measured: apt has {len(found)} packages in two versions", flush=True)
        return None
    old, new = packages(found)
    return Update(f"Debian's packages, {len(found)} of them", old, new, least=3)


def rebuild(quick: bool) -> Update:
    paths, mean = (300 if quick else 1_000), 100_000
    title = f"Nothing but store hashes changed, {paths:,} paths of {mean:,} bytes in the mean"
    old, new = rebuilt(paths, mean)
    return Update(title, old, new, least=50)


def main() -> None:
    chosen = options(__doc__)
    report = Report("update_times", "A host that has the release before updates.", chosen)
    for make in (debian, rebuild):
        wanted = [each for each in _CONDITIONS if chosen.wants(f"{make.__name__}: {each.name}")]
        update = make(chosen.quick) if wanted else None
        if update is None:
            continue
        with scratch() as place, place.hub() as hub:
            report.table(f"{update.title}, stores on {place.kind}")
            acme = release(hub, update.old, update.new).acme
            tenant = Tenant(hub, acme.organization, acme.project, acme.member)
            for condition in wanted:
                with bench_of(place, hub, tenant, update.new, condition) as bench:
                    measure(report, chosen, bench, condition, update.least)
    report.finish()


if __name__ == "__main__":
    main()
