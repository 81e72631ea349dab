"""CI brings a release of many small paths to an empty hub: `piste publish` beside `nix copy --to`.

    python -m benchmarks.publish [--quick]

`piste publish` does more: it evaluates the flake, checks the closure, makes a release. Its steps are shown.
"""

import argparse
import json
from functools import partial
from typing import Any, Final

from benchmarks._closure import DEEP, QUICK, Closure, make_closure, plant, write_flake
from benchmarks._latency import Line
from benchmarks._measure import Times, load, print_conditions, print_table, repeat, timed, version_of
from benchmarks._place import Place, QuietHub, acme, scratch, trusting
from tests.running.command import PISTE, Finished, Person, check
from tests.running.tenants import Tenant

ROUND_TRIPS: Final = (0.0, 0.02)
_LIMIT: Final = 600.0  # seconds of one command


class Bench:
    """One publisher, whose store holds the closure; a new hub for each run, so that all has to be sent."""

    def __init__(self, place: Place, publisher: Person, closure: Closure) -> None:
        self._place = place
        self._publisher = publisher
        self._closure = closure
        self._flake = write_flake(publisher, closure)
        self.requests = 0
        self.seconds: dict[str, float] = {}

    def piste(self, trip: float) -> float:
        return self._once(trip, ["piste", "publish", str(self._flake), "--version", "1.0.0", "--json"])

    def copy(self, trip: float) -> float:
        return self._once(trip, ["nix", "copy", "--from", self._publisher.store, "--to"])

    def _once(self, trip: float, argv: list[str]) -> float:
        with self._place.hub() as hub, Line(trip) as line:
            line.target = int(hub.listen.rpartition(":")[2])
            if trip:
                hub.stop()
                hub.options = ("--public-url", line.url)
                hub.start()
            tenant = acme(hub)
            address = line.url if trip else hub.url
            self._publisher.hub, self._publisher.token = address, tenant.token
            person = trusting(self._publisher, address, tenant.token, tenant.key)
            before = hub.requests()
            seconds = self._run(person, [*argv, *self._ending(tenant, address, argv)])
            self.requests = hub.requests() - before
            self._check(hub, tenant)
        return seconds

    def _ending(self, tenant: Tenant, address: str, argv: list[str]) -> list[str]:
        if argv[0] == "piste":
            return ["--name", tenant.name]
        return [f"{address}/cache/{tenant.name}?compression=zstd", self._closure.top]

    def _run(self, person: Person, argv: list[str]) -> float:
        done: list[Finished] = []
        seconds = timed(lambda: done.append(person.run(*argv, timeout=_LIMIT)))
        printed = check(done[0], argv)
        if argv[0] == "piste":
            answer: dict[str, Any] = json.loads(printed)
            if answer["paths_uploaded"] != len(self._closure.members):
                raise SystemExit(f"{answer['paths_uploaded']} paths were uploaded")
            self.seconds = answer["seconds"]
        return seconds

    def _check(self, hub: QuietHub, tenant: Tenant) -> None:
        hash_part = self._closure.members[-1].path.hash_part
        answer = hub.request("GET", f"{tenant.cache_path}/{hash_part}.narinfo", token=tenant.token)
        if answer.status != 200:
            raise SystemExit(f"the hub does not have the closure: {answer.status}")


def measure(bench: Bench, trip: float, most: int) -> None:
    steps = (("piste publish", bench.piste), ("nix copy --to, zstd", bench.copy))
    found: dict[str, Times] = {}
    rows = [("", "seconds (min / median)", "runs", "ratio", "requests")]
    for name, step in steps:
        found[name] = repeat(partial(step, trip), most)
        ratio = found[name].median / found["piste publish"].median
        count = str(len(found[name].seconds))
        rows.append((name, str(found[name]), count, f"{ratio:.1f}", str(bench.requests)))
    print(f"Round trip {trip * 1000:.0f} ms, {load()}")
    print_table(rows)
    shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in bench.seconds.items())
    print(f"The steps of the last `piste publish`, in seconds: {shown}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the paths, and fewer repetitions")
    options = parser.parse_args()
    closure = make_closure(QUICK if options.quick else DEEP)
    with scratch() as place, place.person() as publisher:
        print(f"Publishing {closure}; the store and the hub's data are on {place.kind}.")
        print_conditions(version_of(str(PISTE)))
        plant(publisher, closure)
        bench = Bench(place, publisher, closure)
        for trip in ROUND_TRIPS:
            measure(bench, trip, 2 if options.quick else 5)


if __name__ == "__main__":
    main()
