"""CI brings built paths to a cache: `piste cache push` beside `nix copy --to`, and both once more when all is
there.

    python -m benchmarks.push [--quick] [--only WORDS]

The whole of each command counts, the start of its interpreter too. Each push is to a new hub, whose cache is
empty; nothing that Nix remembers of an earlier one fits it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from benchmarks._closure import DEEP, SMALL, Closure, make_closure, plant
from benchmarks._latency import Line, throughput
from benchmarks._measure import timed
from benchmarks._pairs import Bound, Kind, Limit, Side, compare
from benchmarks._place import Place, QuietHub, acme, scratch, trusting
from benchmarks._report import Options, Report, options
from tests.running.command import Person, check
from tests.running.tenants import Tenant

ROUND_TRIPS: Final = (0.0, 0.02)
BOUNDS: Final = {0.0: Bound(Kind.FASTER), 0.02: Bound(Kind.FASTER, 8)}
DEEP_PAIRS: Final = 3  # without a bound, and slow
_LIMIT: Final = 600.0  # seconds of one command


class Bench:
    """One publisher, whose store holds the closure."""

    def __init__(self, place: Place, publisher: Person, closure: Closure) -> None:
        self._place = place
        self._publisher = publisher
        self._closure = closure
        self.steps: dict[str, float] = {}
        self.requests: list[float] = []

    def first(self, command: str, trip: float) -> float:
        """A push of all of it."""
        with self._hub(trip) as (hub, tenant, person):
            seconds = self._push(command, tenant, person)
            self._check(hub, tenant)
        return seconds

    def second(self, command: str, trip: float) -> float:
        """A push of what was pushed in the same way."""
        with self._hub(trip) as (hub, tenant, person):
            self._push(command, tenant, person)
            before = hub.requests()
            seconds = self._push(command, tenant, person)
            if command == "piste":
                self.requests.append(float(hub.requests() - before))
        return seconds

    @contextmanager
    def _hub(self, trip: float) -> Iterator[tuple[QuietHub, Tenant, Person]]:
        with self._place.hub() as hub, Line(trip) as line:
            line.target = int(hub.listen.rpartition(":")[2])
            address = line.url if trip else hub.url
            hub.stop()
            hub.options = ("--public-url", address)
            hub.start()
            tenant = acme(hub)
            self._publisher.hub, self._publisher.token = address, tenant.token
            yield hub, tenant, trusting(self._publisher, address, tenant.token, tenant.key)

    def _push(self, command: str, tenant: Tenant, person: Person) -> float:
        top = self._closure.top
        argv = ["piste", "cache", "push", top, "--name", tenant.name, "--json"]
        if command == "nix":
            cache = f"{person.hub}/cache/{tenant.name}?compression=zstd"
            argv = ["nix", "copy", "--from", person.store, "--to", cache, top]
        printed: list[str] = []
        seconds = timed(lambda: printed.append(check(person.run(*argv, timeout=_LIMIT), argv)))
        if command == "piste":
            self.steps = json.loads(printed[0])["seconds"]
        return seconds

    def _check(self, hub: QuietHub, tenant: Tenant) -> None:
        """The first path and the last are there, and with them what lies between."""
        for member in (self._closure.members[0], self._closure.members[-1]):
            place = f"{tenant.cache_path}/{member.path.hash_part}.narinfo"
            answer = hub.request("GET", place, token=tenant.token)
            if answer.status != 200:
                raise SystemExit(f"the hub does not have {member.path}: {answer.status}")


def small(report: Report, chosen: Options, bench: Bench) -> None:
    for trip in ROUND_TRIPS:
        condition = f"{trip * 1000:.0f} ms"
        if chosen.wants(f"first: {condition}"):
            ours = Side("piste cache push", partial(bench.first, "piste", trip))
            theirs = Side("nix copy --to", partial(bench.first, "nix", trip))
            report.add(compare(ours, theirs, BOUNDS[trip], condition=condition, pairs=chosen.pairs))
            shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in bench.steps.items())
            print(f"    the steps of the last push, in seconds: {shown}", flush=True)
        if chosen.wants(f"second: {condition}"):
            ours = Side("second piste cache push", partial(bench.second, "piste", trip))
            theirs = Side("second nix copy --to", partial(bench.second, "nix", trip))
            told = Bound(Kind.FASTER)
            report.add(compare(ours, theirs, told, condition=condition, pairs=chosen.pairs))
    if bench.requests:
        name = "requests of a second push"
        report.add(Limit("", name, "", bench.requests, at_most=1, always=True))


def deep(report: Report, chosen: Options, bench: Bench) -> None:
    ours = Side("piste cache push", partial(bench.first, "piste", 0.02))
    theirs = Side("nix copy --to", partial(bench.first, "nix", 0.02))
    pairs = min(chosen.pairs, DEEP_PAIRS)
    report.add(compare(ours, theirs, Bound(Kind.FASTER), condition="20 ms", pairs=pairs))


def main() -> None:
    chosen = options(__doc__)
    line = ", ".join(f"{throughput(trip):.0f} MB/s at {trip * 1000:.0f} ms" for trip in ROUND_TRIPS if trip)
    report = Report("push", "Paths to a cache.", chosen, **{"the line passes": line})
    for shape, measure in ((SMALL, small), (DEEP, deep)):
        if not chosen.wants(measure.__name__) and measure is deep:
            continue
        with scratch() as place, place.person() as publisher:
            closure = make_closure(shape)
            plant(publisher, closure)
            report.table(f"{closure}, store and hub in memory ({place.kind})")
            measure(report, chosen, Bench(place, publisher, closure))
    report.finish()


if __name__ == "__main__":
    main()
