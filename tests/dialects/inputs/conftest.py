"""A hub on which piste has published a library as a flake, in several releases."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from piste.host.place import system_type
from tests.hub.process import Hub
from tests.running.command import Person
from tests.running.fixtures import hub
from tests.running.nix import write_flake
from tests.running.tenants import Tenant, make_tenant

__all__ = ["hub"]


@dataclass(frozen=True)
class Library:
    """A private project, and the folder that it is published from."""

    tenant: Tenant
    publisher: Person
    folder: Path

    def input_url(self, requirement: str) -> str:
        return f"{self.tenant.hub.url}/f/{self.tenant.name}/{requirement}"

    def publish(self, words: str) -> str:
        """One commit more, and a rolling release of it; its version."""
        definitions = f"""hello = run "hello" "echo {words} > $out";"""
        outputs = f"packages.{system_type()} = {{ inherit hello; }};"
        write_flake(self.publisher, self.folder, definitions, outputs)
        done = self.publisher.succeed(
            "publish", str(self.folder), "--name", self.tenant.name, "--rolling", "--no-build", "--json"
        )
        version: str = done.json["flake_version"]
        return version


@pytest.fixture
def library(hub: Hub, tmp_path: Path, request: pytest.FixtureRequest) -> Library:
    """Each test has a project of its own, with one release."""
    organization = f"o{abs(hash(request.node.nodeid)) % 10**12}"
    tenant = make_tenant(hub, organization, "library")
    publisher = Person(tmp_path / "publisher", hub=hub.url, token=tenant.token)
    folder = tmp_path / "publisher/flake"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs/tool.sh").write_text("#!/bin/sh\n")
    (folder / "docs/tool.sh").chmod(0o755)
    (folder / "docs/again").symlink_to("tool.sh")
    made = Library(tenant, publisher, folder)
    made.publish("first")
    return made
