"""What a fetch needs of memory and time as closures grow: the command's own memory, Nix's not counted, and
the hub's.

    python -m benchmarks.memory [--quick] [--only WORDS]

- paths: closures of many small paths into an empty store; the time for each path, of few and of many.
- large, rebuild: a host has the release before, and makes what is new from it by deltas: of some large NARs
  that changed in places, and of many small ones of which nothing but store hashes changed. It remembers the
  line as a slow one, so that it takes every delta.
"""

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from benchmarks._closure import Shape, make_closure
from benchmarks._pairs import Bound, Kind, Limit, Side, compare
from benchmarks._place import Place, acme, scratch
from benchmarks._report import Options, Report, options
from benchmarks._updates import NEW, OLD, rebuilt, release
from benchmarks.responsive import most_memory
from tests.running.closures import ATTRIBUTE, Member, file_nar, member, new_path, publish
from tests.running.command import PISTE, Person, check
from tests.running.tenants import Tenant

FEW: Final = Shape(5_000, 20, 10_000)
MANY: Final = Shape(20_000, 20, 10_000)
COMMAND: Final = 100  # MB
COMMAND_WITH_DELTAS: Final = 256
HUB: Final = 250
LINEAR: Final = Bound(Kind.AT_MOST, 1.2)
# How much of the whole files an update by deltas may take; more, and they were not used.
_FRACTION: Final = 0.2
_NOTES: Final = "var/cache/piste/releases/notes.json"
_SLOW: Final = 1e5  # bytes a second: every delta is worth its work


class Watched:
    """A release on a hub, and what fetching it took."""

    def __init__(self, place: Place, tenant: Tenant, version: str, members: Sequence[Member]) -> None:
        self.name = f"{len(members):,} paths"
        self._place = place
        self._tenant = tenant
        self._version = version
        self._paths = {str(each.path) for each in members}
        self._top = str(members[-1].path)
        self.command: list[float] = []  # MB, of each fetch
        self.received = 0

    def per_path(self) -> float:
        """Milliseconds of the whole command for each path, into an empty store."""
        with self.host() as person:
            return self.fetch(person) / len(self._paths) * 1000

    @contextmanager
    def host(self) -> Iterator[Person]:
        with self._place.person(self._tenant) as person:
            yield person

    def fetch(self, person: Person) -> float:
        """Seconds of the command; the store has to hold all of the closure afterwards."""
        reference = f"{self._tenant.name}/={self._version}#{ATTRIBUTE}"
        argv = [str(PISTE), "fetch", reference, str(person.folder / "result"), "--json"]
        began = time.perf_counter()
        with subprocess.Popen(
            argv, env=person.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            most = _watch(process)
            seconds = time.perf_counter() - began
            printed, said = process.communicate()
        if process.returncode != 0:
            raise SystemExit(said or "the fetch failed")
        held = check(person.run("nix-store", "-qR", self._top)).split()
        if set(held) != self._paths:
            raise SystemExit(f"{len(held)} paths came of {len(self._paths)}")
        self.command.append(most)
        self.received = json.loads(printed)["bytes_received"]
        return seconds


def _watch(process: "subprocess.Popen[str]") -> float:
    """The most that it has in memory until it ends, in MB."""
    most = 0.0
    while process.poll() is None:
        with suppress(SystemExit, OSError):  # it may be about to be gone
            most = max(most, most_memory(process.pid))
        time.sleep(0.005)
    return most


def paths(report: Report, chosen: Options) -> None:
    """The same hub has both, and made both releases."""
    shapes = (Shape(200, 10, 10_000), Shape(800, 10, 10_000)) if chosen.quick else (FEW, MANY)
    with scratch() as place, place.hub() as hub:
        tenant = acme(hub)
        watched: list[Watched] = []
        for seed, shape in enumerate(shapes, 1):
            members, version = make_closure(shape, seed).members, f"{seed}.0.0"
            with tenant.client() as client:
                publish(client, tenant.organization, tenant.project, version, members)
            watched.append(Watched(place, tenant, version, members))
        few, many = watched
        report.table("Time for each path, fewer and more of them")
        ours, theirs = Side(many.name, many.per_path), Side(few.name, few.per_path)
        report.add(compare(ours, theirs, LINEAR, unit="ms a path", pairs=chosen.pairs))
        report.table("Memory at most, all into an empty store")
        for each in (many, few):
            report.add(_limit(each.name, "piste fetch", each.command, COMMAND))
        report.add(_limit("both", "hub", [most_memory(hub.pid)], HUB))


def _large(quick: bool) -> tuple[list[Member], list[Member]]:
    """NARs of 128 MB, half of which can be compressed away, changed in a hundred places and longer."""
    size, count = (16 << 20, 2) if quick else (128 << 20, 3)
    old: list[Member] = []
    new: list[Member] = []
    for number in range(count):
        draw = random.Random(number)
        content = b"".join(draw.randbytes(1 << 19) + bytes(1 << 19) for _ in range(size >> 20))
        changed = bytearray(content)
        for _ in range(100):
            at = draw.randrange(size - 1000)
            changed[at : at + 1000] = draw.randbytes(1000)
        changed[size // 2 : size // 2] = draw.randbytes(1 << 20)
        for made, version, each in ((old, 1, content), (new, 2, bytes(changed))):
            made.append(Member(new_path(f"large{number}-1.{version}", version), file_nar(each), ()))
    return _with_top(old), _with_top(new)


def _with_top(members: list[Member]) -> list[Member]:
    below = [each.path for each in members]
    return [*members, member("top", tuple(map(str, below)), b"", below)]


def _rebuild(quick: bool) -> tuple[list[Member], list[Member]]:
    old, new = rebuilt(200 if quick else 5_000, 10_000)
    return old, new


def deltas(
    report: Report, chosen: Options, name: str, make: Callable[[bool], tuple[list[Member], list[Member]]]
) -> None:
    """The memory of an update by deltas, and the hub's, which made them meanwhile."""
    old, new = make(chosen.quick)
    whole = sum(len(each.nar) for each in new)
    report.table(
        f"Memory at most, an update by deltas: {name}, {len(new):,} paths, {whole / 1e6:,.0f} MB of NAR"
    )
    with scratch() as place, place.hub() as hub:
        made = release(hub, old, new).acme
        tenant = Tenant(hub, made.organization, made.project, made.member)
        before, after = Watched(place, tenant, OLD, old), Watched(place, tenant, NEW, new)
        del old, new
        for _ in range(min(chosen.pairs, 3)):
            with before.host() as person:
                before.fetch(person)
                _remember_slow_line(person)
                after.fetch(person)
                if after.received > _FRACTION * before.received:
                    raise SystemExit(
                        f"{after.received} bytes came of {before.received}: too few deltas were used"
                    )
        report.add(_limit("all of it, before", "piste fetch", before.command, COMMAND))
        report.add(_limit("by deltas", "piste fetch", after.command, COMMAND_WITH_DELTAS))
        report.add(_limit("", "hub", [most_memory(hub.pid)], HUB))


def _remember_slow_line(person: Person) -> None:
    notes = person.root / _NOTES
    notes.write_text(json.dumps({**json.loads(notes.read_text()), "speed": _SLOW}))


def _limit(condition: str, name: str, megabytes: list[float], at_most: float) -> Limit:
    return Limit(condition, name, "MB", megabytes, at_most=at_most, always=True)


def main() -> None:
    chosen = options(__doc__)
    report = Report("memory", "Fetching larger and larger closures, and updates by deltas.", chosen)
    if chosen.wants("paths"):
        paths(report, chosen)
    for name, make in (("large", _large), ("rebuild", _rebuild)):
        if chosen.wants(name):
            deltas(report, chosen, name, make)
    report.finish()


if __name__ == "__main__":
    main()
