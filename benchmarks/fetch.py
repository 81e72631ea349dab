"""A host gets a release of many small paths into an empty store: `piste fetch` beside stock Nix.

    python -m benchmarks.fetch [--quick]

All of them read the same hub; nginx on a directory cache is there too, where Debian has one for this machine.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks._closure import ATTRIBUTE, Closure, make_closure, plant, write_flake
from benchmarks._latency import Line, throughput
from benchmarks._measure import Times, load, print_conditions, print_table, repeat, timed, version_of
from benchmarks._peers import nginx
from benchmarks._place import Place, QuietHub, acme, scratch, trusting
from piste.nix.signature import PublicKey
from tests.running.command import PISTE, Person, check
from tests.running.tenants import Tenant

ROUND_TRIPS: Final = (0.0, 0.02, 0.1)
REFERENCE: Final = f"acme/web/1#{ATTRIBUTE}"
_LIMIT: Final = 600.0  # seconds of one command


@dataclass
class Bench:
    """What all rows share; `address` is where the hub is reached now, `files` a directory cache."""

    place: Place
    closure: Closure
    tenant: Tenant
    key: PublicKey
    token: str  # resolve-only
    address: str = ""
    files: str = ""

    def piste(self, person: Person) -> float:
        link = person.folder / "result"
        argv = ["piste", "fetch", REFERENCE, str(link), "--json"]
        seconds, printed = self._run(person, argv)
        self.steps = json.loads(printed)["seconds"]
        return seconds

    def copy(self, person: Person) -> float:
        return self._copy(person, f"{self.address}/cache/{self.tenant.name}")

    def realise(self, person: Person) -> float:
        return self._realise(person, f"{self.address}/cache/{self.tenant.name}")

    def copy_files(self, person: Person) -> float:
        return self._copy(person, self.files)

    def realise_files(self, person: Person) -> float:
        return self._realise(person, self.files)

    def once(self, step: Callable[[Person], float]) -> float:
        """One step in an empty store, which has to hold all of the closure afterwards."""
        with self.place.person() as person:
            person.hub, person.token = self.address, self.token
            seconds = step(trusting(person, self.address, self.tenant.token, self.key))
            held = check(person.run("nix-store", "-qR", self.closure.top)).split()
            if len(held) != len(self.closure.members):
                raise SystemExit(f"{len(held)} paths came of {len(self.closure.members)}")
        return seconds

    def _copy(self, person: Person, url: str) -> float:
        return self._run(person, ["nix", "copy", "--from", url, "--to", person.store, self.closure.top])[0]

    def _realise(self, person: Person, url: str) -> float:
        argv = ["nix-store", "--realise", self.closure.top, "--option", "substituters", url]
        return self._run(person, argv)[0]

    def _run(self, person: Person, argv: list[str]) -> tuple[float, str]:
        printed: list[str] = []
        seconds = timed(lambda: printed.append(check(person.run(*argv, timeout=_LIMIT), argv)))
        return seconds, printed[0]


def publish(bench: Bench) -> None:
    """The closure as a release of the hub, by piste itself, and as a directory cache, by Nix."""
    with bench.place.person(bench.tenant) as publisher:
        plant(publisher, bench.closure)
        flake = write_flake(publisher, bench.closure)
        publisher.succeed("publish", str(flake), "--name", bench.tenant.name, "--version", "1.0.0")
    # Stock Nix gets the directory cache signed, so from the hub.
    url = f"{bench.tenant.cache_url}"
    with bench.place.person(bench.tenant) as copier:
        files = f"file://{bench.place.folder}/files?compression=zstd"
        for argv in (
            ["nix", "copy", "--from", url, "--to", copier.store, bench.closure.top],
            ["nix", "copy", "--from", copier.store, "--to", files, bench.closure.top],
        ):
            check(copier.run(*argv, timeout=_LIMIT), argv)


def measure(bench: Bench, hub: QuietHub, round_trips: tuple[float, ...], most: int) -> None:
    """One table for each round trip."""
    with ExitStack() as stack:
        peer = stack.enter_context(nginx(bench.place.new("nginx"), bench.place.folder / "files"))
        line = stack.enter_context(Line())
        files_line = stack.enter_context(Line())
        line.target = int(hub.listen.rpartition(":")[2])
        for trip in round_trips:
            # With no round trip there is nothing between them.
            line.round_trip = files_line.round_trip = trip
            bench.address = line.url if trip else hub.url
            hub.options = ("--public-url", bench.address)
            hub.stop()
            hub.start()
            if peer is not None:
                files_line.target = peer.port
                bench.files = files_line.url if trip else peer.url
            measure_at(bench, hub, trip, most)


def measure_at(bench: Bench, hub: QuietHub, trip: float, most: int) -> None:
    steps = [("piste fetch", bench.piste), ("nix copy --from hub", bench.copy)]
    steps.append(("nix-store --realise, hub", bench.realise))
    if bench.files:
        steps += [("nix copy --from nginx", bench.copy_files)]
        steps += [("nix-store --realise, nginx", bench.realise_files)]
    found: dict[str, Times] = {}
    requests: Counter[str] = Counter()
    for name, step in steps:
        before = hub.requests()
        found[name] = repeat(partial(bench.once, step), most)
        requests[name] = (hub.requests() - before) // len(found[name].seconds)
    base = found["piste fetch"].median
    rows = [("", "seconds (min / median)", "runs", "ratio", "requests to the hub")]
    for name, times in found.items():
        count = str(len(times.seconds))
        rows.append((name, str(times), count, f"{times.median / base:.1f}", str(requests[name] or "-")))
    print(f"Round trip {trip * 1000:.0f} ms, {load()}")
    print_table(rows)
    shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in bench.steps.items())
    print(f"The steps of the last `piste fetch`, in seconds: {shown}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the paths, and fewer repetitions")
    parser.add_argument("--round-trips", help="in ms, separated by commas; else 0, 20 and 100")
    options = parser.parse_args()
    round_trips: tuple[float, ...] = ROUND_TRIPS
    if options.round_trips:
        round_trips = tuple(float(part) / 1000 for part in options.round_trips.split(","))
    closure = make_closure(10 if options.quick else 50)
    with scratch() as place, place.hub() as hub:
        print(f"Fetching {closure}; stores and the hub's data are on {place.kind}.")
        print_conditions(version_of(str(PISTE)))
        speeds = [f"{throughput(trip):.0f} MB/s at {trip * 1000:.0f} ms" for trip in round_trips if trip]
        print(f"The proxy that makes the round trips passes {', '.join(speeds) or '-'}.\n")
        tenant = acme(hub)
        bench = Bench(place, closure, tenant, tenant.key, tenant.resolve_only("1", ATTRIBUTE))
        publish(bench)
        measure(bench, hub, round_trips, 2 if options.quick else 5)


if __name__ == "__main__":
    main()
