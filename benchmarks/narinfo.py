"""What one hub process answers: narinfos a second and their cost, and the speed of a large NAR.

    python -m benchmarks.narinfo [--quick]

Beside it nginx with the same bytes as plain files: it checks no credential and asks no database, so it is the
bar that can't be reached, not one that is to be passed. Without nginx it is Python's own http.server.
"""

import argparse
import random
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks._load import put_under_load
from benchmarks._measure import cpu_seconds, print_conditions, print_table, repeat, version_of
from benchmarks._measure import load as busy
from benchmarks._peers import Peer, nginx
from benchmarks._place import Place, QuietHub, acme, scratch
from tests.hub.process import wait_for
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.command import PISTE
from tests.running.tenants import Tenant

CONNECTIONS: Final = 16
_PATHS: Final = 1000
_LARGE: Final = 200 << 20


@dataclass(frozen=True)
class Target:
    """A server, who asks it, and for what."""

    name: str
    url: str
    pid: int
    prefix: str
    token: str | None = None


def publish_all(tenant: Tenant, members: list[Member], large: Member) -> None:
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", members)
        publish(client, tenant.organization, tenant.project, "2.0.0", [large])


def closure_token(tenant: Tenant, version: str) -> str:
    """What a host gets when it resolves."""
    answer = tenant.hub.request(
        "GET", f"{tenant.api}/resolve/{version}/{ATTRIBUTE}?token=true", token=tenant.token
    )
    token: str = answer.json()["token"]
    return token


def save_as_files(tenant: Tenant, members: list[Member], large: Member, folder: Path) -> None:
    """What the hub answers, byte for byte."""
    (folder / "nar").mkdir(parents=True)
    connection = tenant.hub.connect()
    names = [f"{each.path.hash_part}.narinfo" for each in members] + [nar_name(large)]
    for name in names:
        headers = {"Authorization": f"Bearer {tenant.token}"}
        connection.request("GET", f"{tenant.cache_path}/{name}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{name} was answered with {answer.status}")
        (folder / name).write_bytes(answer.read())
    connection.close()


def nar_name(of: Member) -> str:
    return f"nar/{of.nar_hash.base32}.nar.zst"


@contextmanager
def plain_server(place: Place, files: Path) -> Iterator[Peer]:
    """nginx; where it can't be had, what everybody has."""
    with nginx(place.new("nginx"), files) as peer:
        if peer is not None:
            yield peer
            return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "http.server", "-p", "HTTP/1.1", "-b", "127.0.0.1", "-d", str(files)]
    process = subprocess.Popen([*argv, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield Peer("http.server", port, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def measure_narinfos(targets: list[Target], members: list[Member], seconds: int) -> None:
    rows = [("", "requests/s", "CPU µs a request", "CPU, ratio")]
    names = [each.path.hash_part for each in members]
    costs: list[float] = []
    for target in targets:
        paths = [f"{target.prefix}/{name}.narinfo" for name in names]
        put_under_load(target.url, paths, target.token, CONNECTIONS, 1)  # what is read once is read now
        before = cpu_seconds(target.pid)
        load = put_under_load(target.url, paths, target.token, CONNECTIONS, seconds)
        costs.append((cpu_seconds(target.pid) - before) / load.requests * 1e6)
        rows.append((target.name, f"{load.rate:,.0f}", f"{costs[-1]:.0f}", ""))
    rows[1:] = [
        (name, rate, cost, f"{costs[place] / costs[-1]:.0f}x")
        for place, (name, rate, cost, _) in enumerate(rows[1:])
    ]
    print(
        f"Narinfos: {CONNECTIONS} connections kept open, {len(names):,} paths, load by {load.tool}; {busy()}"
    )
    print_table(rows)


def measure_nar(targets: list[Target], large: Member, most: int) -> None:
    rows = [("", "MB/s (most / median)", "CPU ms", "ratio")]
    medians: list[float] = []
    for target in targets:
        before = cpu_seconds(target.pid)
        times = repeat(partial(get, target, large), most)
        cost = (cpu_seconds(target.pid) - before) / len(times.seconds) * 1000
        speeds = [_LARGE / seconds / 1e6 for seconds in times.seconds]
        medians.append(statistics.median(speeds))
        rows.append((target.name, f"{max(speeds):,.0f} / {medians[-1]:,.0f}", f"{cost:.0f}", ""))
    rows[1:] = [(*row[:3], f"{medians[place] / medians[-1]:.2f}") for place, row in enumerate(rows[1:])]
    print(f"One NAR of {_LARGE >> 20} MiB that can't be compressed, by curl; {busy()}")
    print_table(rows)


def get(target: Target, large: Member) -> float:
    """Seconds of one download."""
    argv = ["curl", "-sf", "-o", "/dev/null", "-w", "%{time_total} %{size_download}", "--config", "-"]
    config = f'header = "Authorization: Bearer {target.token}"\n' if target.token else ""
    url = f"{target.url}{target.prefix}/{nar_name(large)}"
    done = subprocess.run([*argv, url], input=config, capture_output=True, text=True, check=True, timeout=300)
    seconds, size = done.stdout.split()
    if float(size) < _LARGE:
        raise SystemExit(f"{size} bytes came of {_LARGE}")
    return float(seconds)


def run(place: Place, hub: QuietHub, seconds: int, most: int) -> None:
    private = acme(hub)
    public = private.another_project("open", "public")
    members = make_closure(7, paths=_PATHS, size=2000)
    large = member("large", 1, random.Random(2).randbytes(_LARGE))
    for tenant in (private, public):
        publish_all(tenant, members, large)
    files = place.new("files")
    save_as_files(private, members, large, files)
    with plain_server(place, files) as peer:
        hubs = [("hub, user token", private, private.token), ("hub, nobody, public project", public, None)]

        def targets(version: str) -> list[Target]:
            named = [("hub, closure token", private, closure_token(private, version)), *hubs]
            found = [Target(name, hub.url, hub.pid, who.cache_path, token) for name, who, token in named]
            return [*found, Target(peer.name, peer.url, peer.pid, "")]

        measure_narinfos(targets("1"), members, seconds)
        measure_nar(targets("2"), large, most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, and fewer repetitions")
    quick = parser.parse_args().quick
    with scratch() as place, place.hub() as hub:
        print(f"One hub process on SQLite; its data are on {place.kind}.")
        print_conditions(version_of(str(PISTE)))
        run(place, hub, 2 if quick else 8, 2 if quick else 5)


if __name__ == "__main__":
    main()
