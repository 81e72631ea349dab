"""How long a resolution takes while the hub sends large NARs as fast as they are taken, and what memory that
needs.

    python -m benchmarks.responsive [--quick]
"""

import random
import statistics
import threading
import time
from pathlib import Path
from typing import Final

from benchmarks._load import put_under_load
from benchmarks._pairs import Bound, Kind, Limit, Side, compare
from benchmarks._place import QuietHub, acme, scratch
from benchmarks._report import Report, options
from benchmarks.serving import nar_name
from tests.running.closures import ATTRIBUTE, member, publish
from tests.running.tenants import Tenant

DOWNLOADS: Final = 16
_SIZE: Final = 64_000_000
_MEGABYTES: Final = 250


class Bench:
    """A release with a few large NARs, and a resolution that is asked for again and again on one
    connection."""

    def __init__(self, hub: QuietHub, seconds: int) -> None:
        self._seconds = seconds
        self._tenant: Tenant = acme(hub)
        draw = random.Random(1)
        self._members = [member(f"large-{n}", n, draw.randbytes(_SIZE)) for n in range(4)]
        with self._tenant.client() as client:
            publish(client, "acme", "web", "1.0.0", self._members)
        self.sent: list[float] = []  # MB a second

    def alone(self) -> float:
        return self._slowest_of_a_hundred()

    def beside_downloads(self) -> float:
        """While all of them are under way."""
        downloading = threading.Thread(target=self._download)
        downloading.start()
        time.sleep(0.3)  # so that they are
        found = self._slowest_of_a_hundred()
        downloading.join()
        return found

    def _download(self) -> None:
        paths = [f"{self._tenant.cache_path}/{nar_name(each)}" for each in self._members]
        load = put_under_load(
            self._tenant.hub.url, paths, self._tenant.token, DOWNLOADS, self._seconds + 1, large=True
        )
        self.sent.append(load.bytes_read / load.seconds / 1e6)

    def _slowest_of_a_hundred(self) -> float:
        """The 99th percentile, in ms."""
        connection = self._tenant.hub.connect()
        headers = {"Authorization": f"Bearer {self._tenant.token}"}
        times: list[float] = []
        until = time.perf_counter() + self._seconds
        while time.perf_counter() < until or len(times) < 100:
            began = time.perf_counter()
            connection.request("GET", f"{self._tenant.api}/resolve/1/{ATTRIBUTE}?token=true", headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"a resolution was answered with {answer.status}")
            times.append((time.perf_counter() - began) * 1000)
        connection.close()
        return statistics.quantiles(times, n=100)[98]


def most_memory(pid: int) -> float:
    """What a process has held at most so far, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    raise SystemExit(f"/proc/{pid}/status says nothing of memory")


def main() -> None:
    chosen = options(__doc__)
    with scratch() as place, place.hub("--resolutions", "100000000") as hub:
        about = f"One hub process, {DOWNLOADS} downloads of {_SIZE // 1_000_000} MB at once."
        report = Report("responsive", about, chosen, **{"hub's data on": place.kind})
        report.table("99th percentile of a resolution")
        bench = Bench(hub, 1 if chosen.quick else 3)
        ours = Side("beside the downloads", bench.beside_downloads)
        theirs = Side("alone", bench.alone)
        told = Bound(Kind.AT_MOST)
        report.add(compare(ours, theirs, told, unit="ms", pairs=chosen.pairs))
        report.table("The hub meanwhile")
        report.add(Limit("", "sent", "MB/s", bench.sent))
        memory = [most_memory(hub.pid)]
        report.add(Limit("", "memory", "MB", memory, at_most=_MEGABYTES, always=True))
    report.finish()


if __name__ == "__main__":
    main()
