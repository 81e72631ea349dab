"""What a hub's process answers for each second of processor time: narinfos, and bytes of large NARs.

    python -m benchmarks.serving [--quick] [--only WORDS]

Beside it nginx with the same bytes as plain files: it checks no credential and asks no database. The hub is
asked by itself, and behind nginx with the configuration that is shipped; there the processor time of both
counts.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks._cpu import CpuGroup, cpu_group
from benchmarks._load import Load, put_under_load
from benchmarks._pairs import Bound, Kind, Side, compare
from benchmarks._peers import nginx
from benchmarks._place import Place, QuietHub, acme, scratch
from benchmarks._report import Options, Report, options
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.nginx import HUB_OPTIONS, shipped_nginx
from tests.running.tenants import Tenant

CONNECTIONS: Final = 16
THIRD: Final = Bound(Kind.SHARE, 1 / 3)
NINE_TENTHS: Final = Bound(Kind.SHARE, 0.9)
_PATHS: Final = 1000
_SIZES: Final = {"1 MB": (1_000_000, 32), "16 MB": (16_000_000, 4), "200 MB": (200_000_000, 1)}


Worth = Callable[[Load], float]


@dataclass(frozen=True)
class Target:
    """A server, who asks it, and below which path."""

    name: str
    url: str
    cpu: tuple[CpuGroup, ...]
    prefix: str
    token: str | None = None

    def used(self) -> float:
        return sum(group.seconds() for group in self.cpu)

    def per_cpu_second(self, names: list[str], seconds: int, worth: Worth) -> float:
        """What is served for each second of the processor."""
        paths = [f"{self.prefix}/{name}" for name in names]
        before = self.used()
        load = put_under_load(self.url, paths, self.token, CONNECTIONS, seconds)
        return worth(load) / (self.used() - before)

    def side(self, names: list[str], seconds: int, worth: Worth) -> Side:
        # What is read once is read now: from a warm page cache, and with what a process remembers.
        asked = 0
        while asked < 2 * len(names):
            paths = [f"{self.prefix}/{name}" for name in names]
            asked += put_under_load(self.url, paths, self.token, CONNECTIONS, 1).requests
        return Side(self.name, partial(self.per_cpu_second, names, seconds, worth))


def nar_name(of: Member) -> str:
    return f"nar/{of.nar_hash.base32}.nar.zst"


def narinfo_names(members: list[Member]) -> list[str]:
    return [f"{each.path.hash_part}.narinfo" for each in members]


def closure_token(tenant: Tenant, version: str) -> str:
    """What a host gets when it resolves."""
    answer = tenant.hub.request(
        "GET", f"{tenant.api}/resolve/{version}/{ATTRIBUTE}?token=true", token=tenant.token
    )
    token: str = answer.json()["token"]
    return token


def save(tenant: Tenant, names: list[str], folder: Path) -> None:
    """What the hub answers, byte for byte, as files."""
    (folder / "nar").mkdir(parents=True, exist_ok=True)
    connection = tenant.hub.connect()
    for name in names:
        headers = {"Authorization": f"Bearer {tenant.token}"}
        connection.request("GET", f"{tenant.cache_path}/{name}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{name} was answered with {answer.status}")
        (folder / name).write_bytes(answer.read())
    connection.close()


class Bench:
    """A private and a public project with the same paths, and nginx with the same files."""

    def __init__(
        self, place: Place, hub: QuietHub, second: QuietHub, chosen: Options, report: Report
    ) -> None:
        self._hub = hub
        self._second = second
        self._chosen = chosen
        self._report = report
        self._seconds = 1 if chosen.quick else 3
        self._private = acme(hub)
        self._public = self._private.another_project("open", "public")
        self._files = place.new("files")
        self._members = make_closure(7, paths=_PATHS, size=2000)
        self._publish("1.0.0", self._members)
        save(self._private, narinfo_names(self._members), self._files)
        self._nginx, self._shipped = place.new("nginx"), place.new("shipped")
        self._proxy, self._proxy_cpu = "", CpuGroup(None)

    def run(self) -> None:
        with nginx(self._nginx, self._files) as peer:
            if peer is None:
                raise SystemExit("nginx is what this is compared with, and can't be had here")
            plain = Target("nginx, plain files", peer.url, (peer.cpu,), "")
            port, objects = int(self._second.listen.rpartition(":")[2]), self._hub.data / "objects"
            with cpu_group() as cpu, shipped_nginx(self._shipped, port, objects, cpu.joining([])) as shipped:
                self._proxy = f"http://127.0.0.1:{shipped}"
                self._proxy_cpu = cpu
                self._narinfos(plain)
                self._nars(plain)

    def _publish(self, version: str, members: list[Member]) -> None:
        for tenant in (self._private, self._public):
            with tenant.client() as client:
                publish(client, tenant.organization, tenant.project, version, members)

    def _askers(self, version: str) -> list[Target]:
        hub, private, public = self._hub, self._private, self._public
        named = [
            ("closure token", private, closure_token(private, version)),
            ("user token", private, private.token),
            ("nobody, public project", public, None),
        ]
        return [Target(name, hub.url, (hub.cpu,), who.cache_path, token) for name, who, token in named]

    def _narinfos(self, plain: Target) -> None:
        title = "narinfos for a second of the processor"
        if not self._chosen.wants(title):
            return
        self._report.table(f"{title}, {_PATHS:,} paths, {CONNECTIONS} connections")
        names = narinfo_names(self._members)
        theirs = plain.side(names, self._seconds, _requests)
        for target in self._askers("1"):
            ours = target.side(names, self._seconds, _requests)
            self._add(ours, theirs, THIRD, "bare hub", "requests/CPU s")
        behind = self._behind(self._askers("1")[0])
        told = Bound(Kind.SHARE)
        ours = behind.side(names, self._seconds, _requests)
        self._add(ours, theirs, told, "behind nginx", "requests/CPU s")

    def _nars(self, plain: Target) -> None:
        title = "NAR bytes for a second of the processor"
        if not self._chosen.wants(title):
            return
        self._report.table(f"{title}, {CONNECTIONS} connections")
        for version, (size_name, (size, count)) in enumerate(_SIZES.items(), start=2):
            draw = random.Random(size)
            members = [member(f"large-{n}", (size, n), draw.randbytes(size)) for n in range(count)]
            self._publish(f"{version}.0.0", members)
            names = [nar_name(each) for each in members]
            save(self._private, names, self._files)
            theirs = plain.side(names, self._seconds, _megabytes)
            target = self._askers(str(version))[1]
            ours = target.side(names, self._seconds, _megabytes)
            self._add(ours, theirs, THIRD, f"{size_name}, bare hub", "MB/CPU s")
            ours = self._behind(target).side(names, self._seconds, _megabytes)
            self._add(ours, theirs, NINE_TENTHS, f"{size_name}, behind nginx", "MB/CPU s")

    def _behind(self, target: Target) -> Target:
        """The same by the shipped nginx; what both use counts."""
        return replace(target, url=self._proxy, cpu=(self._second.cpu, self._proxy_cpu))

    def _add(self, ours: Side, theirs: Side, bound: Bound, condition: str, unit: str) -> None:
        pairs = self._chosen.pairs
        self._report.add(compare(ours, theirs, bound, condition=condition, unit=unit, pairs=pairs))


def _requests(load: Load) -> float:
    return load.requests


def _megabytes(load: Load) -> float:
    return load.bytes_read / 1e6


def main() -> None:
    chosen = options(__doc__)
    with scratch() as place, place.hub() as hub, place.hub(*HUB_OPTIONS, beside=hub) as second:
        about = "One hub process on SQLite, all of it in the page cache."
        report = Report("serving", about, chosen, **{"hub's data on": place.kind})
        Bench(place, hub, second, chosen, report).run()
    report.finish()


if __name__ == "__main__":
    main()
