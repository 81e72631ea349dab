"""A hub with releases of a system, and machines that boot and run them."""

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.host.system import example_source, page_of, with_page
from tests.hub.process import Hub
from tests.running.command import Finished, Person
from tests.running.tenants import Tenant, make_tenant
from tests.systemd.debian import why_no_machine
from tests.systemd.machine import Machine

ATTRIBUTE = "nixosConfigurations.web"
RELEASE = Path(__file__).parent / "release"
ONE, TWO, NO_PAGE, DIES_LATER = "1.0.0", "1.1.0", "1.2.0", "1.3.0"
# Runs from the first release on, and fails whenever a test takes the file away.
OLD_UNIT = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/test -e /var/lib/fine
"""
# Starts well, and ends half a second later, again and again.
FLAPPING_UNIT = """[Service]
ExecStart=/usr/bin/sh -c 'sleep 0.5; exit 3'
Restart=always
RestartSec=1h
"""


@dataclass
class Releases:
    """What was published: version -> store path."""

    tenant: Tenant
    paths: dict[str, str]


@pytest.fixture(scope="package")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases]:
    folder = tmp_path_factory.mktemp("releases")
    if reason := why_no_machine(folder):
        pytest.skip(reason)
    hub = Hub(folder / "hub")
    try:
        tenant = make_tenant(hub.start(), "acme", "web")
        yield Releases(tenant, _publish(Person(folder / "publisher", hub.url, tenant.token), tenant))
    finally:
        hub.close()


def _publish(publisher: Person, tenant: Tenant) -> dict[str, str]:
    source = example_source(publisher, publisher.folder / "source")
    shutil.copytree(RELEASE, source / "system", dirs_exist_ok=True)
    (source / "units").mkdir()
    (source / "units/old.service").write_text(OLD_UNIT)
    paths = {}
    for version, page in ((ONE, "one"), (TWO, "two"), (NO_PAGE, ""), (DIES_LATER, "later")):
        if version == DIES_LATER:
            (source / "units/flapping.service").write_text(FLAPPING_UNIT)
        with_page(publisher, source, page)
        argv = ["publish", str(source), "--name", tenant.name, "--version", version, "--json"]
        paths[version] = publisher.succeed(*argv).json["outputs"][ATTRIBUTE]
    return paths


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Site:
    """A machine that runs release ONE, and what was published for it."""

    machine: Machine
    releases: Releases
    port: int

    @property
    def page(self) -> str | None:
        return page_of(self.port)

    def path(self, version: str) -> str:
        return self.releases.paths[version]

    def command(self, version: str, *arguments: str) -> list[str]:
        return ["piste", "apply", "nixos", f"acme/web/={version}", *arguments, "--json"]

    def apply(self, version: str, *arguments: str) -> Finished:
        return self.machine.run(*self.command(version, *arguments))

    def history(self) -> list[tuple[str | None, str]]:
        rows: list[dict[str, Any]] = self.machine.run("piste", "history", "--json").json
        return [(row.get("version"), row["result"]) for row in rows]

    def failed_units(self) -> list[str]:
        listed = self.machine.ask("systemctl", "list-units", "--state=failed", "--plain", "--no-legend")
        return [line.split()[0] for line in listed.splitlines()]

    def check_runs(self, version: str) -> None:
        """The machine runs this release, and would boot it."""
        path = self.path(version)
        machine = self.machine
        assert (machine.running, machine.profile, machine.boots) == (path, path, path)
        assert self.page == {ONE: "one", TWO: "two"}[version]


@pytest.fixture
def site(releases: Releases, tmp_path: Path) -> Iterator[Site]:
    machine = Machine(tmp_path / "machine", releases.tenant.hub.url)
    try:
        machine.boot()
        made = Site(machine, releases, _free_port())
        for place in ("var/lib/web", "etc/piste"):
            machine.file(place).mkdir(parents=True, exist_ok=True)
        machine.file("var/lib/web/port").write_text(f"{made.port}\n")
        machine.file("var/lib/fine").touch()
        token = machine.file("root/token")
        token.touch(mode=0o600)
        token.write_text(releases.tenant.resolve_only("1", ATTRIBUTE) + "\n")
        machine.ask("piste", "login", "--token-file", "/root/token")
        done = made.apply(ONE)
        assert done.code == 0, done.stderr
        yield made
    finally:
        machine.close()
