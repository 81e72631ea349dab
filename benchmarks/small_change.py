"""A host has the release before; ten paths of 5 MB change. From the start of `piste apply` to that of the
activation.

    python -m benchmarks.small_change [--quick]
"""

import time
from typing import Final

from benchmarks._changes import REFERENCE, STARTED, release
from benchmarks._latency import Line
from benchmarks._pairs import Limit
from benchmarks._place import Place, QuietHub, acme, scratch
from benchmarks._report import Report, options
from tests.host.system import why_no_activation
from tests.running.closures import ATTRIBUTE, publish
from tests.running.tenants import Tenant

ROUND_TRIPS: Final = {0.0: None, 0.02: 1.0, 0.1: None}  # seconds → the bound, in seconds


class Bench:
    """A hub with one release after another, and a machine that follows them."""

    def __init__(self, place: Place, hub: QuietHub) -> None:
        self._place = place
        self._hub = hub
        self._tenant: Tenant = acme(hub)
        self._releases = 0
        self._publish()

    def measure(self, trip: float, times: int) -> tuple[list[float], list[float]]:
        """Seconds to the start of the activation, and to the end of the command."""
        to_activation, to_end = [], []
        with Line(trip) as line, self._place.person() as host:
            line.target = int(self._hub.listen.rpartition(":")[2])
            address = line.url if trip else self._hub.url
            self._hub.options = ("--public-url", address)
            self._hub.stop()
            self._hub.start()
            host.hub, host.token = address, self._tenant.resolve_only("*", ATTRIBUTE)
            host.succeed("login", "--trusted-key", str(self._tenant.key))
            host.succeed("apply", "nixos", REFERENCE)
            for _ in range(times):
                self._publish()
                before, began = time.time(), time.perf_counter()
                host.succeed("apply", "nixos", REFERENCE)
                to_end.append(time.perf_counter() - began)
                to_activation.append((host.root / STARTED).stat().st_mtime - before)
        if min(to_activation) <= 0:
            raise SystemExit("an activation did not run")
        return to_activation, to_end

    def _publish(self) -> None:
        self._releases += 1
        with self._tenant.client() as client:
            publish(client, "acme", "web", f"1.0.{self._releases}", release(self._releases).members)


def main() -> None:
    chosen = options(__doc__)
    if reason := why_no_activation():
        raise SystemExit(f"nothing can be activated here: {reason}")
    with scratch() as place, place.hub() as hub:
        about = "Ten paths of 5 MB change on a host that has the release before."
        report = Report("small_change", about, chosen, **{"stores on": place.kind})
        report.table("From the start of `piste apply`")
        bench = Bench(place, hub)
        for trip, bound in ROUND_TRIPS.items():
            condition = f"{trip * 1000:.0f} ms"
            if chosen.wants(condition):
                to_activation, to_end = bench.measure(trip, chosen.pairs)
                report.add(Limit(condition, "to the activation", "s", to_activation, at_most=bound))
                report.add(Limit(condition, "to its end", "s", to_end))
    report.finish()


if __name__ == "__main__":
    main()
