"""CI brings a release of many small paths to an empty hub: `piste publish` beside `nix copy --to`.

    python -m benchmarks.publish [--quick] [--only WORDS]

`piste publish` does more: it evaluates the flake, checks the closure, makes a release. Its steps are shown.
The whole of each command counts, and each publishes to a new hub, which has nothing yet.
"""

import json
from collections import defaultdict
from functools import partial
from typing import Any, Final

from benchmarks._closure import DEEP, QUICK, Closure, make_closure, plant, write_flake
from benchmarks._latency import Line, throughput
from benchmarks._measure import timed
from benchmarks._pairs import Bound, Comparison, Kind, Side, compare
from benchmarks._place import Place, QuietHub, acme, scratch, trusting
from benchmarks._report import Options, Report, options
from tests.running.command import Person, check
from tests.running.tenants import Tenant

ROUND_TRIPS: Final = (0.0, 0.02)
PUBLISH: Final = "piste publish"
COPY: Final = "nix copy --to, zstd"
_ENOUGH: Final = 240.0  # seconds of a row: stock Nix takes forty at 20 ms
_LIMIT: Final = 600.0  # seconds of one command


class Bench:
    """One publisher, whose store holds the closure; a new hub for each run, so that all has to be sent."""

    def __init__(self, place: Place, publisher: Person, closure: Closure) -> None:
        self._place = place
        self._publisher = publisher
        self._closure = closure
        self._flake = write_flake(publisher, closure)
        self.requests: dict[str, list[float]] = defaultdict(list)
        self.steps: dict[str, float] = {}

    def publish(self, command: str, trip: float) -> float:
        """All of it, to a hub that has nothing."""
        with self._place.hub() as hub, Line(trip) as line:
            line.target = int(hub.listen.rpartition(":")[2])
            address = line.url if trip else hub.url
            hub.stop()
            hub.options = ("--public-url", address)
            hub.start()
            tenant = acme(hub)
            self._publisher.hub, self._publisher.token = address, tenant.token
            person = trusting(self._publisher, address, tenant.token, tenant.key)
            before = hub.requests()
            seconds = self._run(command, person, tenant)
            self.requests[command].append(float(hub.requests() - before))
            self._check(hub, tenant)
        return seconds

    def _run(self, command: str, person: Person, tenant: Tenant) -> float:
        argv = ["piste", "publish", str(self._flake), "--name", tenant.name, "--version", "1.0.0", "--json"]
        if command == COPY:
            cache = f"{person.hub}/cache/{tenant.name}?compression=zstd"
            argv = ["nix", "copy", "--from", person.store, "--to", cache, self._closure.top]
        printed: list[str] = []
        seconds = timed(lambda: printed.append(check(person.run(*argv, timeout=_LIMIT), argv)))
        if command == PUBLISH:
            answer: dict[str, Any] = json.loads(printed[0])
            if answer["paths_uploaded"] != len(self._closure.members):
                raise SystemExit(f"{answer['paths_uploaded']} paths were uploaded")
            self.steps = answer["seconds"]
        return seconds

    def _check(self, hub: QuietHub, tenant: Tenant) -> None:
        hash_part = self._closure.members[-1].path.hash_part
        answer = hub.request("GET", f"{tenant.cache_path}/{hash_part}.narinfo", token=tenant.token)
        if answer.status != 200:
            raise SystemExit(f"the hub does not have the closure: {answer.status}")


def measure(report: Report, chosen: Options, bench: Bench, trip: float) -> None:
    """Both in pairs: their seconds, and what the hub was asked meanwhile."""
    condition = f"{trip * 1000:.0f} ms"
    if not chosen.wants(condition):
        return
    bench.requests.clear()
    ours, theirs = (Side(name, partial(bench.publish, name, trip)) for name in (PUBLISH, COPY))
    told = Bound(Kind.FASTER)
    report.add(compare(ours, theirs, told, condition=condition, pairs=chosen.pairs, enough=_ENOUGH))
    requests = list(zip(bench.requests[PUBLISH], bench.requests[COPY], strict=True))
    fewer = Bound(Kind.AT_MOST)
    report.add(Comparison(condition, PUBLISH, COPY, "requests", fewer, requests))
    shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in bench.steps.items())
    print(f"    the steps of the last `{PUBLISH}`, in seconds: {shown}", flush=True)


def main() -> None:
    chosen = options(__doc__)
    line = ", ".join(f"{throughput(trip):.0f} MB/s at {trip * 1000:.0f} ms" for trip in ROUND_TRIPS if trip)
    report = Report("publish", "A release to an empty hub.", chosen, **{"the line passes": line})
    closure = make_closure(QUICK if chosen.quick else DEEP)
    with scratch() as place, place.person() as publisher:
        plant(publisher, closure)
        report.table(f"{closure}, store and hub in memory ({place.kind})")
        bench = Bench(place, publisher, closure)
        for trip in ROUND_TRIPS:
            measure(report, chosen, bench, trip)
    report.finish()


if __name__ == "__main__":
    main()
