"""From the start of a publication until the last host runs it: on one host, and on fifty at once.

    python -m benchmarks.deploy [--quick] [--only WORDS] [--hosts 50]

Beside `piste publish` and `piste apply` what one would write instead: `nix copy` to a directory cache that
nginx serves, and on each host `nix copy` from it, `nix-env --set`, the switch. That one evaluates nothing,
asks for no credential, tests nothing before it commits, and remembers nothing for a way back.

All hosts run on this machine's few cores, so that fifty of them measure these more than a server: hosts get
what the servers leave, which have processors of their own elsewhere. What a server itself had to do for each
of them stands below.
"""

import argparse
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from benchmarks._changes import REFERENCE, STARTED, release
from benchmarks._closure import Closure, plant, write_flake
from benchmarks._latency import Line
from benchmarks._measure import timed
from benchmarks._pairs import Bound, Comparison, Kind, Limit, Side, compare
from benchmarks._peers import Peer, nginx
from benchmarks._place import Place, QuietHub, acme, scratch
from benchmarks._report import Options, Report, options
from tests.host.system import entrance, why_no_activation
from tests.running.closures import ATTRIBUTE
from tests.running.command import PISTE, Person, check
from tests.running.tenants import Tenant

HOSTS: Final = 50
QUICK_HOSTS: Final = 5
ROUND_TRIPS: Final = (0.0, 0.02)
MANY_PAIRS: Final = 5  # without a bound, and slow
_AT_MOST: Final = Bound(Kind.AT_MOST)
_TOPLEVEL: Final = f"{ATTRIBUTE}.config.system.build.toplevel"  # where a flake has what it is released as
_ASKED: Final = "/plan/"  # in the route of the one question that a host begins with
_ASIDE: Final = ("nice", "-n", "19")
_LIMIT: Final = 600.0  # seconds of one command


class Way(Protocol):
    """How a release comes from a publisher's store to hosts."""

    name: str
    server: str

    def join(self, host: Person) -> None:
        """Give a new host what it needs before its first release."""

    def publish(self, closure: Closure) -> None: ...

    def apply(self, host: Person) -> None: ...

    def used(self) -> tuple[float, int]:
        """The server's processor time in seconds, and the requests that it has answered, so far."""


class ByPiste:
    """A hub."""

    name: str = "piste"
    server: str = "the hub"

    def __init__(self, hub: QuietHub, address: str, publisher: Person) -> None:
        self.hub = hub
        self._address = address
        self._tenant: Tenant = acme(hub)
        self._publisher = publisher
        publisher.hub, publisher.token = address, self._tenant.token
        self._releases = 0

    def join(self, host: Person) -> None:
        host.hub, host.token = self._address, self._tenant.resolve_only("*", ATTRIBUTE)
        host.succeed("login", "--trusted-key", str(self._tenant.key))

    def publish(self, closure: Closure) -> None:
        self._releases += 1
        flake, version = str(self._publisher.folder / "flake"), f"1.0.{self._releases}"
        self._publisher.succeed("publish", flake, "--name", self._tenant.name, "--version", version)

    def apply(self, host: Person) -> None:
        _run(host, [*_ASIDE, str(PISTE), "apply", "nixos", REFERENCE])

    def used(self) -> tuple[float, int]:
        time.sleep(1.1)  # what was answered from memory is told once a second
        return self.hub.cpu.seconds(), self.hub.requests()


class ByCopies:
    """Plain files and nginx, with signatures that hosts check."""

    name: str = "nix copy, nginx"
    server: str = "nginx"

    def __init__(self, peer: Peer, address: str, files: Path, publisher: Person) -> None:
        self._peer = peer
        self._address = address
        self._files = files
        self._publisher = publisher
        self._secret, public = publisher.folder / "cache.key", publisher.folder / "cache.pub"
        argv = ["nix-store", "--generate-binary-cache-key", "cache-1", str(self._secret), str(public)]
        check(publisher.run(*argv), argv)
        self._key = public.read_text().strip()
        self._top = ""
        self._questions = 0

    def join(self, host: Person) -> None:
        host.extra = {**host.extra, "NIX_CONFIG": f"trusted-public-keys = {self._key}"}
        (host.root / "nix/var/nix/profiles").mkdir(parents=True)

    def publish(self, closure: Closure) -> None:
        self._top = closure.top
        cache = f"file://{self._files}?compression=zstd&secret-key={self._secret}"
        _run(self._publisher, ["nix", "copy", "--from", self._publisher.store, "--to", cache, self._top])

    def apply(self, host: Person) -> None:
        profile = str(host.root / "nix/var/nix/profiles/system")
        switch = f"{self._top}/bin/switch-to-configuration"
        _run(host, [*_ASIDE, "nix", "copy", "--from", self._address, "--to", host.store, self._top])
        _run(host, [*_ASIDE, "nix-env", "--profile", profile, "--set", self._top])
        _run(host, [*_ASIDE, *entrance(host.root), switch, "switch"])

    def used(self) -> tuple[float, int]:
        self._questions += 1  # of ours
        return self._peer.cpu.seconds(), self._peer.requests() - self._questions


@dataclass
class Fleet:
    """Hosts that all run the release before, and what it took to bring them the next."""

    way: Way
    hosts: list[Person]
    slowest: list[float] = field(default_factory=list)  # seconds of a host, the 99th percentile
    own: list[float] = field(default_factory=list)  # s of a host's own processor
    cpu: list[float] = field(default_factory=list)  # ms of the server for a host
    requests: list[float] = field(default_factory=list)  # of a host

    def deploy(self, closure: Closure) -> float:
        """Seconds until the last of them runs it."""
        published = timed(partial(self.way.publish, closure))
        cpu, requests = self.way.used()
        own, began = _children(), time.perf_counter()
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            each = list(pool.map(self._bring, self.hosts))
        applied = time.perf_counter() - began
        self.own.append((_children() - own) / len(each))
        cpu_now, requests_now = self.way.used()
        self.slowest.append(_percentile(each))
        self.cpu.append((cpu_now - cpu) / len(each) * 1000)
        self.requests.append((requests_now - requests) / len(each))
        return published + applied

    def _bring(self, host: Person) -> float:
        """The whole of one host, which has to have activated something."""
        started = host.root / STARTED
        started.unlink(missing_ok=True)
        seconds = timed(partial(self.way.apply, host))
        if not started.exists():
            raise SystemExit("an activation did not run")
        return seconds


class Bench:
    """One publisher, whose store has each release, and the ways from there."""

    def __init__(self, place: Place, publisher: Person, ways: list[Way]) -> None:
        self._place = place
        self._publisher = publisher
        self._ways = ways
        self._releases = 0

    def measure(self, report: Report, count: int, pairs: int, condition: str) -> None:
        """So many hosts of each way, in pairs."""
        with self._fleets(count) as fleets:
            ours, theirs = (Side(each.way.name, partial(self._next, each)) for each in fleets)
            report.add(compare(ours, theirs, _AT_MOST, condition=condition, pairs=pairs))
            if count > 1:
                slowest = "99th percentile of a host"
                _beside(report, fleets, condition, slowest, "s", lambda each: each.slowest)
            own = "a host's processor"
            _beside(report, fleets, condition, own, "s of CPU", lambda each: each.own)
            servers = [f"{each.way.server}, for a host" for each in fleets]
            _beside(report, fleets, condition, servers, "ms of CPU", lambda each: each.cpu)
            _beside(report, fleets, condition, servers, "requests", lambda each: each.requests)

    @contextmanager
    def _fleets(self, count: int) -> Iterator[list[Fleet]]:
        """New hosts, which run the release that is there now."""
        with ExitStack() as stack:
            made: list[Fleet] = []
            for way in self._ways:
                hosts = [stack.enter_context(self._place.person()) for _ in range(count)]
                for host in hosts:
                    way.join(host)
                self._next(Fleet(way, hosts))
                made.append(Fleet(way, hosts))
            yield made

    def _next(self, fleet: Fleet) -> float:
        return fleet.deploy(self._build())

    def _build(self) -> Closure:
        """What a build leaves behind: all but ten paths are those of the release before."""
        self._releases += 1
        closure = release(self._releases)
        plant(self._publisher, closure)
        shutil.rmtree(self._publisher.folder / "flake", ignore_errors=True)
        write_flake(self._publisher, closure, _TOPLEVEL)
        return closure


def _children() -> float:
    """Seconds of the processor that all programs which were waited for have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(person: Person, argv: list[str]) -> None:
    check(person.run(*argv, timeout=_LIMIT), argv)


def _beside(
    report: Report,
    fleets: list[Fleet],
    condition: str,
    names: str | list[str],
    unit: str,
    values: Callable[[Fleet], list[float]],
) -> None:
    """A row of what was counted while the fleets were measured."""
    if isinstance(names, str):
        names = [f"{each.way.name}: {names}" for each in fleets]
    pairs = list(zip(*map(values, fleets), strict=True))
    report.add(Comparison(condition, names[0], names[1], unit, _AT_MOST, pairs))


def _percentile(values: list[float]) -> float:
    """The 99th; of one value it is that."""
    return statistics.quantiles([*values, *values], n=100, method="inclusive")[98]


def _hub(report: Report, hub: QuietHub, condition: str) -> None:
    """How the hub kept up, by its own log: nobody may have been sent away."""
    answers = hub.answers()
    resolved = [line["milliseconds"] for line in answers if _ASKED in line["route"]]
    sent_away = sum(line["status"] == 429 or line["status"] >= 500 for line in answers)
    slowest = _percentile(resolved)
    report.add(Limit(condition, "resolutions in the hub, 99th percentile", "ms", [slowest]))
    report.add(Limit(condition, "answers of 429 or 5xx", "", [float(sent_away)], at_most=0, always=True))


def measure(report: Report, chosen: Options, trip: float) -> None:
    """One host, then many: hub, nginx and hosts are new for each."""
    many = chosen.arguments.hosts or (QUICK_HOSTS if chosen.quick else HOSTS)
    for count, pairs in ((1, chosen.pairs), (many, min(chosen.pairs, MANY_PAIRS))):
        condition = f"{'one host' if count == 1 else f'{count} hosts'}, {trip * 1000:.0f} ms"
        if not chosen.wants(condition):
            continue
        with ExitStack() as stack:
            place = stack.enter_context(scratch())
            publisher = stack.enter_context(place.person())
            piste = by_piste(stack, place, publisher, trip)
            ways: list[Way] = [piste, by_copies(stack, place, publisher, trip)]
            Bench(place, publisher, ways).measure(report, count, pairs, condition)
            _hub(report, piste.hub, condition)


def by_piste(stack: ExitStack, place: Place, publisher: Person, trip: float) -> ByPiste:
    hub = stack.enter_context(place.hub())
    address = _behind_line(stack, hub.url, trip)
    hub.stop()
    hub.options = ("--public-url", address)
    hub.start()
    return ByPiste(hub, address, publisher)


def by_copies(stack: ExitStack, place: Place, publisher: Person, trip: float) -> ByCopies:
    files = place.new("files")
    files.mkdir()
    peer = stack.enter_context(nginx(place.new("nginx"), files))
    if peer is None:
        raise SystemExit("nginx is what this is compared with, and can't be had here")
    return ByCopies(peer, _behind_line(stack, peer.url, trip), files, publisher)


def _behind_line(stack: ExitStack, url: str, trip: float) -> str:
    """Where a server is reached; without a round trip there is nothing between."""
    if not trip:
        return url
    line = stack.enter_context(Line(trip))
    line.target = int(url.rpartition(":")[2])
    return line.url


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, help=f"how many at once; else {HOSTS}")
    chosen = options(__doc__, parser)
    if reason := why_no_activation():
        raise SystemExit(f"nothing can be activated here: {reason}")
    about = "A release of which ten paths of 5 MB are new, from its publication to its activation."
    report = Report("deploy", about, chosen)
    report.table("From the start of the publication to the end of the last host's activation")
    for trip in ROUND_TRIPS:
        measure(report, chosen, trip)
    report.finish()


if __name__ == "__main__":
    main()
