"""A host gets a release of many paths into an empty store: `piste fetch` beside stock Nix.

    python -m benchmarks.fetch [--quick] [--only WORDS]

Stock Nix reads the same hub, and nginx on a directory cache, which is the fastest that it knows. The whole of
each command counts, the start of its interpreter too. Stores are in memory, but for one table that has them
on a disk. One table is over TLS, through the nginx configuration that is shipped. Closures of other shapes
(`--only shapes`) have results of their own: few pairs, and no bounds.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks._closure import ATTRIBUTE, DEEP, QUICK, SHAPES, WIDE, Closure, Shape, make_closure
from benchmarks._latency import Line, throughput
from benchmarks._measure import timed
from benchmarks._pairs import Bound, Kind, Side, compare
from benchmarks._peers import nginx
from benchmarks._place import Place, QuietHub, acme, scratch, trusting
from benchmarks._report import Options, Report, options
from benchmarks._served import publish_by_piste, save_as_files
from piste.nix.signature import PublicKey
from tests.identities.openid import Certificate, make_certificate
from tests.running.command import Person, check
from tests.running.nginx import hub_options, shipped_nginx
from tests.running.tenants import Tenant

REFERENCE: Final = f"acme/web/1#{ATTRIBUTE}"
FROM_HUB_PAIRS: Final = 2  # without a bound, and slow
SHAPE_PAIRS: Final = 5
# Seconds of a row, in which what is slow is measured less often: two pairs of stock Nix at 100 ms on a disk,
# one of it from the hub, and of it and 1,000 paths of a shape.
_ENOUGH_ON_DISK: Final = 300.0
_ENOUGH_OF_A_SHAPE: Final = 30.0
_ENOUGH_OVER_TLS: Final = 60.0
_ENOUGH_FROM_HUB: Final = 60.0
_LIMIT: Final = 1200.0  # seconds of one command

# Round trip in seconds → bounds against `nix copy` and `nix-store --realise`, both from nginx.
DEEP_BOUNDS: Final = {
    0.0: (Bound(Kind.AT_MOST, 1.15), Bound(Kind.AT_MOST, 1.15)),
    0.02: (Bound(Kind.FASTER, 25), Bound(Kind.FASTER, 2.5)),
    0.1: (Bound(Kind.FASTER, 80), Bound(Kind.FASTER, 6)),
}
TOLD: Final = Bound(Kind.FASTER)


@dataclass
class Bench:
    """A hub and a directory cache with one closure, and how each of them is reached now."""

    place: Place
    closure: Closure
    tenant: Tenant
    hub: QuietHub
    files: Path
    token: str  # resolve-only
    key: PublicKey
    address: str = ""
    peer: str = ""
    certificate: Certificate | None = None  # of both
    steps: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def at(self, trip: float) -> Iterator[None]:
        """Hub and nginx behind lines of a round trip; with none there is nothing between."""
        with ExitStack() as stack:
            peer = stack.enter_context(nginx(self.place.new("nginx"), self.files))
            if peer is None:
                raise SystemExit("nginx is what this is compared with, and can't be had here")
            line, other = (stack.enter_context(Line(trip)) for _ in range(2))
            line.target, other.target = int(self.hub.listen.rpartition(":")[2]), peer.port
            self.address, self.peer = (line.url, other.url) if trip else (self.hub.url, peer.url)
            self.hub.options = ("--public-url", self.address)
            self.hub.stop()
            self.hub.start()
            yield

    @contextmanager
    def by_tls(self, trip: float) -> Iterator[None]:
        """The hub behind the shipped nginx, and the other nginx: both over TLS and a line of a round trip."""
        folder = self.place.new("tls")
        folder.mkdir()
        certificate, proxy_socket = make_certificate(folder), folder / "proxy.sock"
        objects, shipped = self.hub.data / "objects", self.place.new("shipped")
        with ExitStack() as stack:
            peer = stack.enter_context(nginx(self.place.new("nginx"), self.files, certificate))
            port = stack.enter_context(shipped_nginx(shipped, proxy_socket, objects, [], certificate))
            if peer is None or port is None:
                raise SystemExit("nginx is what this is compared with, and can't be had here")
            line, other = (stack.enter_context(Line(trip)) for _ in range(2))
            self.address, self.peer = (each.url.replace("http:", "https:") for each in (line, other))
            self.hub.options = (*hub_options(proxy_socket), "--public-url", self.address)
            self.hub.stop()
            self.hub.start()
            line.target, other.target = port, int(peer.tls_url.rpartition(":")[2])
            self.certificate = certificate
            yield
        self.certificate = None

    def piste(self, person: Person) -> float:
        argv = ["piste", "fetch", REFERENCE, str(person.folder / "result"), "--json"]
        seconds, printed = self._run(person, argv)
        self.steps = json.loads(printed)["seconds"]
        return seconds

    def copy(self, url: str, person: Person) -> float:
        return self._run(person, ["nix", "copy", "--from", url, "--to", person.store, self.closure.top])[0]

    def realise(self, url: str, person: Person) -> float:
        argv = ["nix-store", "--realise", self.closure.top, "--option", "substituters", url]
        return self._run(person, argv)[0]

    def side(self, name: str, step: Callable[[Person], float]) -> Side:
        return Side(name, partial(self._once, step))

    def _once(self, step: Callable[[Person], float]) -> float:
        """One step in an empty store, which has to hold all of the closure afterwards."""
        with self.place.person() as person:
            person.hub, person.token = self.address, self.token
            if self.certificate is not None:
                trusted = str(self.certificate.file)
                person.extra = {"SSL_CERT_FILE": trusted, "NIX_SSL_CERT_FILE": trusted}
            seconds = step(trusting(person, self.address, self.tenant.token, self.key))
            held = check(person.run("nix-store", "-qR", self.closure.top)).split()
            if len(held) != len(self.closure.members):
                raise SystemExit(f"{len(held)} paths came of {len(self.closure.members)}")
        return seconds

    def _run(self, person: Person, argv: list[str]) -> tuple[float, str]:
        printed: list[str] = []
        seconds = timed(lambda: printed.append(check(person.run(*argv, timeout=_LIMIT), argv)))
        return seconds, printed[0]


@contextmanager
def bench_of(shape: Shape, *, on_disk: bool = False) -> Iterator[Bench]:
    closure = make_closure(shape)
    with scratch(on_disk=on_disk) as place, place.hub() as hub:
        tenant = acme(hub)
        publish_by_piste(place, tenant, closure)
        files = save_as_files(place, tenant, closure)
        token = tenant.resolve_only("1", ATTRIBUTE)
        yield Bench(place, closure, tenant, hub, files, token, tenant.key)


def deep(report: Report, chosen: Options, bench: Bench, title: str, *, on_disk: bool) -> None:
    """All round trips of the options; stock Nix from nginx, and in memory from the hub too."""
    enough = _ENOUGH_ON_DISK if on_disk else math.inf
    ours = bench.side("piste fetch", bench.piste)
    for trip, bounds in DEEP_BOUNDS.items():
        # A disk decides there as much as who fetches.
        than_copy, than_realise = (Bound(each.kind) for each in bounds) if on_disk else bounds
        condition = f"{trip * 1000:.0f} ms"
        if not chosen.wants(f"{title}: {condition}"):
            continue
        with bench.at(trip):
            cache = f"{bench.address}/cache/{bench.tenant.name}"
            rows = [
                ("nix copy, nginx", partial(bench.copy, bench.peer), than_copy, chosen.pairs, enough),
                (
                    "nix-store --realise, nginx",
                    partial(bench.realise, bench.peer),
                    than_realise,
                    chosen.pairs,
                    enough,
                ),
            ]
            if not on_disk:
                few = min(chosen.pairs, FROM_HUB_PAIRS)
                rows += [
                    ("nix copy, hub", partial(bench.copy, cache), TOLD, few, _ENOUGH_FROM_HUB),
                    ("nix-store --realise, hub", partial(bench.realise, cache), TOLD, few, _ENOUGH_FROM_HUB),
                ]
            for name, step, bound, pairs, limit in rows:
                theirs = bench.side(name, step)
                row = compare(ours, theirs, bound, condition=condition, pairs=pairs, enough=limit)
                report.add(row)
        shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in bench.steps.items())
        print(f"The steps of the last `piste fetch`, in seconds: {shown}\n", flush=True)


def over_tls(report: Report, chosen: Options, bench: Bench) -> None:
    """As a hub is reached that is not on this machine; told without bounds."""
    with bench.by_tls(0.02):
        ours = bench.side("piste fetch", bench.piste)
        for name, step in (("nix copy", bench.copy), ("nix-store --realise", bench.realise)):
            theirs = bench.side(f"{name}, nginx", partial(step, bench.peer))
            pairs, enough = min(chosen.pairs, SHAPE_PAIRS), _ENOUGH_OVER_TLS
            report.add(compare(ours, theirs, TOLD, condition="20 ms", pairs=pairs, enough=enough))


def wide(report: Report, chosen: Options, bench: Bench) -> None:
    """Against what needs no network at all."""
    with bench.at(0.02):
        theirs = bench.side("nix copy, local files", partial(bench.copy, f"file://{bench.files}"))
        ours = bench.side("piste fetch", bench.piste)
        bound = Bound(Kind.AT_MOST, 1.6)
        report.add(compare(ours, theirs, bound, condition="20 ms", pairs=chosen.pairs))


def shapes(chosen: Options) -> None:
    """Closures of all shapes at 20 ms, told without bounds."""
    wanted = [each for each in SHAPES if chosen.wants(f"shapes: {each}")]
    if not wanted:
        return
    report = Report("shapes", "Releases of several shapes into an empty store.", chosen)
    report.table("20 ms, stores in memory")
    pairs = min(chosen.pairs, SHAPE_PAIRS)
    for shape in wanted:
        shape = replace(shape, paths=shape.paths // 5) if chosen.quick else shape
        with bench_of(shape) as bench, bench.at(0.02):
            ours = bench.side("piste fetch", bench.piste)
            for name, step in (("nix copy", bench.copy), ("nix-store --realise", bench.realise)):
                theirs = bench.side(f"{name}, nginx", partial(step, bench.peer))
                report.add(
                    compare(
                        ours,
                        theirs,
                        TOLD,
                        condition=str(shape),
                        pairs=pairs,
                        enough=_ENOUGH_OF_A_SHAPE,
                    )
                )
    report.finish()


def usual(chosen: Options) -> None:
    """What bounds are of."""
    titles = {False: "stores in memory", True: "stores on a disk"}
    wanted = [
        on_disk
        for on_disk, title in titles.items()
        if any(chosen.wants(f"{title}: {trip * 1000:.0f} ms") for trip in DEEP_BOUNDS)
    ]
    if not wanted and not any(map(chosen.wants, ("wide", "over TLS"))):
        return
    line = ", ".join(f"{throughput(trip):.0f} MB/s at {trip * 1000:.0f} ms" for trip in DEEP_BOUNDS if trip)
    report = Report("fetch", "A release into an empty store.", chosen, **{"the line passes": line})
    for on_disk in wanted:
        with bench_of(QUICK if chosen.quick else DEEP, on_disk=on_disk) as bench:
            report.table(f"{bench.closure}, {titles[on_disk]} ({bench.place.kind})")
            deep(report, chosen, bench, titles[on_disk], on_disk=on_disk)
    if chosen.wants("over TLS"):
        with bench_of(QUICK if chosen.quick else DEEP) as bench:
            report.table(f"{bench.closure}, stores in memory ({bench.place.kind}), both over TLS")
            over_tls(report, chosen, bench)
    if chosen.wants("wide"):
        with bench_of(QUICK if chosen.quick else WIDE) as bench:
            report.table(f"{bench.closure}, stores in memory ({bench.place.kind})")
            wide(report, chosen, bench)
    report.finish()


def main() -> None:
    chosen = options(__doc__)
    shapes(chosen)
    usual(chosen)


if __name__ == "__main__":
    main()
