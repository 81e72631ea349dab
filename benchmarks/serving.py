"""What a hub's process answers for each second of processor time: narinfos, and bytes of large NARs.

    python -m benchmarks.serving [--quick] [--only WORDS]

Beside it nginx with the same bytes as plain files: it checks no credential and asks no database. The hub is
asked by itself, and behind nginx and Caddy with the configurations that are shipped; there the processor time
of both counts. The shipped site speaks TLS, as both sides do then; without it the hub's part is the same and
the bytes cost less. Both sides keep a log, and send large NARs as they do it best.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks._cpu import CpuGroup, cpu_group, keep_apart
from benchmarks._load import Load, put_under_load
from benchmarks._pairs import Bound, Kind, Side, compare
from benchmarks._peers import Peer, nginx
from benchmarks._place import Place, QuietHub, acme, scratch
from benchmarks._report import Options, Report, options
from tests.identities.openid import make_certificate
from tests.running.caddy import shipped_caddy
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.nginx import hub_options, shipped_nginx
from tests.running.tenants import Tenant

CONNECTIONS: Final = 16
THIRD: Final = Bound(Kind.SHARE, 1 / 3)
NINE_TENTHS: Final = Bound(Kind.SHARE, 0.9)
TOLD: Final = Bound(Kind.SHARE)
_PATHS: Final = 1000
_TOLD_PAIRS: Final = 3  # of what has no bound
_NARINFO_SECONDS: Final = 3
# Both take short turns within each pair: the speed of a machine changes within seconds.
_NAR_SECONDS: Final = 1
_NAR_TURNS: Final = 5
# Bytes, and how many NARs.
_SIZES: Final = {"1 MB": (1_000_000, 32), "16 MB": (16_000_000, 4), "200 MB": (200_000_000, 1)}


@dataclass(frozen=True)
class Target:
    """A server, who asks it, and below which path."""

    name: str
    url: str
    cpu: tuple[CpuGroup, ...]
    prefix: str
    token: str | None = None

    def narinfos(self, names: list[str], seconds: int) -> Side:
        """How many it answers for each second of the processor."""
        return self._side(names, seconds, large=False, worth=lambda load: load.requests)

    def nars(self, names: list[str], seconds: int) -> Side:
        """How many MB it sends for that."""
        return self._side(names, seconds, large=True, worth=lambda load: load.bytes_sent / 1e6)

    def _side(self, names: list[str], seconds: int, *, large: bool, worth: Callable[[Load], float]) -> Side:
        paths = [f"{self.prefix}/{name}" for name in names]
        ask = partial(put_under_load, self.url, paths, self.token, CONNECTIONS, large=large)

        def measure() -> float:
            before = self._used()
            load = ask(seconds)
            return worth(load) / (self._used() - before)

        # What is read once is read now: from a warm page cache, and with what a process remembers.
        asked = 0
        while asked < 2 * len(names):
            asked += ask(1).requests
        return Side(self.name, measure)

    def _used(self) -> float:
        return sum(group.seconds() for group in self.cpu)


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
    folder.mkdir(exist_ok=True)
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
        self,
        place: Place,
        hub: QuietHub,
        second: QuietHub,
        proxy_socket: Path,
        chosen: Options,
        report: Report,
    ) -> None:
        self._place = place
        self._hub = hub
        self._second = second
        self._proxy_socket = proxy_socket
        self._chosen = chosen
        self._report = report
        self._private = acme(hub)
        self._public = self._private.another_project("open", "public")
        self._files = place.new("files")
        self._members = make_closure(7, paths=_PATHS, size=2000)
        self._publish("1.0.0", self._members)
        save(self._private, narinfo_names(self._members), self._files)
        (place.folder / "tls").mkdir()
        self._certificate = make_certificate(place.folder / "tls")

    def run(self) -> None:
        with nginx(self._place.new("nginx"), self._files, self._certificate, large_nars=True) as peer:
            if peer is None:
                raise SystemExit("nginx is what this is compared with, and can't be had here")
            with (
                self._shipped("http") as proxy,
                self._shipped("https") as tls_proxy,
                self._shipped_caddy() as caddy,
            ):
                self._narinfos(peer, proxy, caddy)
                self._nars(peer, proxy, tls_proxy, caddy)

    @contextmanager
    def _shipped(self, scheme: str) -> Iterator[Target]:
        """The hub behind the shipped nginx; what both use counts."""
        certificate = self._certificate if scheme == "https" else None
        objects, folder = self._hub.data / "objects", self._place.new("shipped")
        with (
            cpu_group() as cpu,
            shipped_nginx(folder, self._proxy_socket, objects, cpu.joining([]), certificate) as port,
        ):
            yield Target("nginx", f"{scheme}://127.0.0.1:{port}", (self._second.cpu, cpu), "")

    @contextmanager
    def _shipped_caddy(self) -> Iterator[Target | None]:
        """The same with the shipped Caddy, without TLS; None where there is no Caddy."""
        objects, folder = self._hub.data / "objects", self._place.new("caddy")
        with (
            cpu_group() as cpu,
            shipped_caddy(folder, self._proxy_socket, objects, cpu.joining([])) as port,
        ):
            cpus = (self._second.cpu, cpu)
            yield None if port is None else Target("Caddy", f"http://127.0.0.1:{port}", cpus, "")

    def _publish(self, version: str, members: list[Member]) -> None:
        for tenant in (self._private, self._public):
            with tenant.client() as client:
                publish(client, tenant.organization, tenant.project, version, members)

    def _link(self, names: list[str]) -> None:
        """The very files of the hub: what a copy is made of in the page cache depends on how it was written,
        and that decides what sending it costs."""
        for name in names:
            target = self._files / name
            target.parent.mkdir(exist_ok=True)
            target.hardlink_to(next((self._hub.data / "objects").rglob(target.name)))

    def _askers(self, version: str) -> list[Target]:
        hub, private, public = self._hub, self._private, self._public
        named = [
            ("closure token", private, closure_token(private, version)),
            ("user token", private, private.token),
            ("nobody, public project", public, None),
        ]
        return [Target(name, hub.url, (hub.cpu,), who.cache_path, token) for name, who, token in named]

    def _narinfos(self, peer: Peer, proxy: Target, caddy: Target | None) -> None:
        title = "narinfos for a second of the processor"
        if not self._chosen.wants(title):
            return
        self._report.table(f"{title}, {_PATHS:,} paths, {CONNECTIONS} connections")
        names = narinfo_names(self._members)
        seconds = 1 if self._chosen.quick else _NARINFO_SECONDS
        theirs = _plain(peer).narinfos(names, seconds)
        for target in self._askers("1"):
            ours = target.narinfos(names, seconds)
            self._add(ours, theirs, THIRD, "bare hub", "requests/CPU s")
        for name, through in (("nginx", proxy), ("Caddy", caddy)):
            if through is not None:
                ours = _behind(through, self._askers("1")[0]).narinfos(names, seconds)
                self._add(ours, theirs, TOLD, f"behind {name}, without TLS", "requests/CPU s")

    def _nars(self, peer: Peer, proxy: Target, tls_proxy: Target, caddy: Target | None) -> None:
        title = "NAR bytes for a second of the processor"
        user, plain, by_tls = self._askers("1")[1], _plain(peer), _plain(peer, tls=True)
        rows = [
            ("bare hub", user, plain, THIRD),
            ("behind nginx", _behind(tls_proxy, user), by_tls, NINE_TENTHS),
            ("behind nginx, without TLS", _behind(proxy, user), plain, NINE_TENTHS),
        ]
        if caddy is not None:
            rows.append(("behind Caddy, without TLS", _behind(caddy, user), plain, TOLD))
        wanted = {
            size: [row for row in rows if self._chosen.wants(f"{title}: {size}, {row[0]}")] for size in _SIZES
        }
        if not any(wanted.values()):
            return
        self._report.table(f"{title}, {CONNECTIONS} connections")
        for version, (size_name, (size, count)) in enumerate(_SIZES.items(), start=2):
            if not wanted[size_name]:
                continue
            draw = random.Random(size)
            members = [member(f"large-{n}", (size, n), draw.randbytes(size)) for n in range(count)]
            self._publish(f"{version}.0.0", members)
            names = [nar_name(each) for each in members]
            self._link(names)
            for where, ours, theirs, bound in wanted[size_name]:
                mine, other = (each.nars(names, _NAR_SECONDS) for each in (ours, theirs))
                self._add(mine, other, bound, f"{size_name}, {where}", "MB/CPU s", _NAR_TURNS)

    def _add(self, ours: Side, theirs: Side, bound: Bound, condition: str, unit: str, turns: int = 1) -> None:
        pairs = self._chosen.pairs if bound.value is not None else min(self._chosen.pairs, _TOLD_PAIRS)
        turns = 1 if self._chosen.quick else turns
        row = compare(ours, theirs, bound, condition=condition, unit=unit, pairs=pairs, turns=turns)
        self._report.add(row)


def _plain(peer: Peer, *, tls: bool = False) -> Target:
    name = "nginx, plain files, TLS" if tls else "nginx, plain files"
    return Target(name, peer.tls_url if tls else peer.url, (peer.cpu,), "")


def _behind(proxy: Target, target: Target) -> Target:
    return replace(target, url=proxy.url, cpu=proxy.cpu)


def main() -> None:
    chosen = options(__doc__)
    keep_apart()
    with ExitStack() as stack:
        place = stack.enter_context(scratch())
        proxy_socket = place.folder / "proxy.sock"
        hub = stack.enter_context(place.hub())
        second = stack.enter_context(place.hub(*hub_options(proxy_socket), beside=hub))
        about = (
            "One hub process on SQLite, all of it in the page cache. What serves keeps to one core, what asks"
            " to another."
        )
        report = Report("serving", about, chosen, **{"hub's data on": place.kind})
        Bench(place, hub, second, proxy_socket, chosen, report).run()
    report.finish()


if __name__ == "__main__":
    main()
