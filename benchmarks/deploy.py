"""From the start of `piste publish` to the end of `piste apply`: on one host, and on fifty at once.

    python -m benchmarks.deploy [--quick]

All of them run on this machine's few cores, so that fifty hosts measure its cores more than the hub.
"""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from benchmarks._changes import REFERENCE, release
from benchmarks._closure import plant, write_flake
from benchmarks._pairs import Limit
from benchmarks._place import Place, QuietHub, acme, scratch
from benchmarks._report import Report, options
from tests.host.system import why_no_activation
from tests.running.closures import ATTRIBUTE
from tests.running.command import Person
from tests.running.tenants import Tenant

HOSTS: Final = 50
_TOPLEVEL: Final = f"{ATTRIBUTE}.config.system.build.toplevel"  # where a flake has what it is released as


class Bench:
    """A publisher, and hosts that run what it published last."""

    def __init__(self, place: Place, hub: QuietHub, stack: ExitStack) -> None:
        self._tenant: Tenant = acme(hub)
        self._publisher = stack.enter_context(place.person(self._tenant))
        self._releases = 0
        self._prepare()
        self._publish()

    def host(self, person: Person) -> Person:
        """A machine with the first release."""
        person.hub, person.token = self._tenant.hub.url, self._tenant.resolve_only("*", ATTRIBUTE)
        person.succeed("login", "--trusted-key", str(self._tenant.key))
        _apply(person)
        return person

    def deploy(self, hosts: list[Person]) -> float:
        """Seconds until the last of them runs the next release."""
        self._prepare()
        began = time.perf_counter()
        self._publish()
        with ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(_apply, hosts))
        return time.perf_counter() - began

    def _prepare(self) -> None:
        """What a build leaves behind."""
        self._releases += 1
        closure = release(self._releases)
        plant(self._publisher, closure)
        shutil.rmtree(self._publisher.folder / "flake", ignore_errors=True)
        self._flake = write_flake(self._publisher, closure, _TOPLEVEL)

    def _publish(self) -> None:
        version = f"1.0.{self._releases}"
        self._publisher.succeed(
            "publish", str(self._flake), "--name", self._tenant.name, "--version", version
        )


def _apply(host: Person) -> None:
    done = host.succeed("apply", "nixos", REFERENCE, "--json", timeout=600)
    if done.json["result"] != "committed":
        raise SystemExit(f"a host ended with {done.json['result']}")


def main() -> None:
    chosen = options(__doc__)
    if reason := why_no_activation():
        raise SystemExit(f"nothing can be activated here: {reason}")
    with ExitStack() as stack:
        place = stack.enter_context(scratch())
        hub = stack.enter_context(place.hub())
        about = "A release of which ten paths of 5 MB are new, published and applied; no round trip."
        report = Report("deploy", about, chosen, **{"stores on": place.kind})
        report.table("From the start of `piste publish` to the end of the last `piste apply`")
        bench = Bench(place, hub, stack)
        count = 5 if chosen.quick else HOSTS
        hosts = [bench.host(stack.enter_context(place.person())) for _ in range(count)]
        for some in (hosts[:1], hosts):
            # The others catch up in between, so that each begins with the release before.
            seconds = [bench.deploy(some) for _ in range(chosen.pairs)]
            name = "one host" if len(some) == 1 else f"{len(some)} hosts at once"
            report.add(Limit("", name, "s", seconds))
    report.finish()


if __name__ == "__main__":
    main()
