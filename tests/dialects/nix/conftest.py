"""A hub with a switch for faults, a project of it, and a second cache that has the same paths."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.process import Hub
from tests.running.command import Person, check
from tests.running.nix import build, configured, copy_to, nix_of
from tests.running.tenants import Tenant, make_tenant

VERSIONS = ["forky", "trixie", "bookworm"]
PATIENCE = 1.0  # seconds that the hub under test waits for a fault to go


def with_nix(folder: Path, version: str) -> Person:
    found = nix_of(version)
    if found is None:
        pytest.skip(f"the Nix of Debian {version} is not there: `make setup-dev` brings it")
    return Person(folder, nix=found)


@dataclass
class Faulty:
    """What fails, for whom, and where to go instead."""

    tenant: Tenant
    switch: Path
    second: str  # the address of the other cache
    path: str  # in both

    def break_it(self, fault: str) -> None:
        temporary = self.switch.with_suffix(".new")
        temporary.write_text(fault)
        temporary.rename(self.switch)

    def mend(self) -> None:
        self.break_it("")

    def host(self, folder: Path, version: str, **settings: str) -> Person:
        """A new machine that trusts both caches, and remembers what Nix remembers by itself."""
        tenant = self.tenant
        made = configured(with_nix(folder, version), tenant.hub.url, tenant.token, [tenant.key])
        given = [line for line in made.extra["NIX_CONFIG"].splitlines() if "-ttl" not in line]
        # The second cache signs nothing.
        given += ["require-sigs = false", *(f"{name} = {value}" for name, value in settings.items())]
        return Person(made.folder, nix=made.nix, extra={**made.extra, "NIX_CONFIG": "\n".join(given)})

    def caches(self, *, second: bool = True, hub_first: bool = True) -> str:
        """What to give to `--option substituters`."""
        found = [f"{self.tenant.cache_url}?priority={1 if hub_first else 90}"]
        return " ".join([*found, *([f"{self.second}?priority=50"] if second else [])])


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faulty")
    switch = folder / "switch"
    switch.write_text("")
    program = (sys.executable, "-m", "tests.dialects.nix.faulty_hub", str(switch), str(PATIENCE))
    hub = Hub(folder / "hub", program=program)
    try:
        hub.start()
        tenant = make_tenant(hub, "acme", "web")
        person = Person(folder / "publisher")
        # Long enough to be cut in the middle, and nothing that compresses to nothing.
        path = build(person, _PATH, "app")
        second = f"file://{folder}/second"
        check(person.run("nix", "copy", "--to", second, path))
        check(copy_to(configured(person, hub.url, tenant.token, []), tenant.cache_url, path))
        yield Faulty(tenant, switch, second, path)
    finally:
        switch.write_text("")
        hub.close()


_PATH = """app = run "app" "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done > $out";"""
