"""How long the short commands take, from the shell's point of view, beside programs that do as much.

python -m benchmarks.startup [--quick]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks._closure import ATTRIBUTE
from benchmarks._measure import print_conditions, print_table, version_of
from benchmarks._place import acme, scratch
from tests.running.closures import make_closure, publish
from tests.running.command import PISTE
from tests.running.tenants import Tenant

ROUNDS: Final = 15
_NOTHING: Final = "python -c pass"


def commands(tenant: Tenant, netrc: Path) -> dict[str, list[str]]:
    """What is measured, by its name in the table."""
    piste = str(PISTE)
    resolve = f"{tenant.hub.url}{tenant.api}/resolve/1/{ATTRIBUTE}"
    return {
        _NOTHING: [sys.executable, "-c", "pass"],
        "piste --help": [piste, "--help"],
        "piste resolve --help": [piste, "resolve", "--help"],
        "piste resolve": [piste, "resolve", f"{tenant.name}/1#{ATTRIBUTE}"],
        "piste status": [piste, "status"],
        "curl of what resolve asks": ["curl", "-sf", "--netrc-file", str(netrc), "-o", "/dev/null", resolve],
        "nix --version": ["nix", "--version"],
    }


def measure(argv: Sequence[str], environment: Mapping[str, str], rounds: int) -> list[float]:
    """Milliseconds of each round, after one that fills the page cache."""
    found = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=60)
        found.append((time.perf_counter() - began) * 1000)
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five rounds instead of fifteen")
    rounds = 5 if parser.parse_args().quick else ROUNDS
    with scratch() as place, place.hub() as hub:
        tenant = acme(hub)
        members = make_closure(1)
        with tenant.client() as client:
            publish(client, tenant.organization, "web", "1.0.0", members, outputs={ATTRIBUTE: members[-1]})
        with place.person(tenant) as person:
            print(f"Start-up: the median of {rounds} rounds, on a warm page cache.")
            print_conditions(version_of(str(PISTE)), version_of("curl")[:11])
            environment = {**os.environ, **person.environment}
            named = commands(tenant, person.folder / "netrc")
            found = {name: measure(argv, environment, rounds) for name, argv in named.items()}
    base = statistics.median(found[_NOTHING])
    rows = [("", "ms (min / median)", f"above {_NOTHING}")]
    for name, times in found.items():
        median = statistics.median(times)
        rows.append((name, f"{min(times):.0f} / {median:.0f}", f"{median - base:.0f}"))
    print_table(rows)


if __name__ == "__main__":
    main()
