"""A hub on which piste has published a small flake, built with the Nix on PATH."""

from dataclasses import dataclass

import pytest

from piste.host.place import system_type
from tests.hub.process import Hub
from tests.running.command import Person
from tests.running.fixtures import hub
from tests.running.nix import write_flake
from tests.running.tenants import Tenant, make_tenant

__all__ = ["hub"]

# Three derivations that refer to each other, one to itself; one that is beside them.
DEFINITIONS = """
  library = run "library" "echo the library > $out";
  tool = run "tool" "echo ${library} $out > $out";
  app = run "app" "echo ${tool} ${library} > $out";
  notes = run "notes" "echo for people > $out";
"""


@dataclass(frozen=True)
class Release:
    """What `piste publish` made."""

    tenant: Tenant
    output: str  # the store path of `app`
    notes: str


@pytest.fixture(scope="module")
def release(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Release:
    tenant = make_tenant(hub, "acme", "web")
    person = Person(tmp_path_factory.mktemp("publisher"), hub=hub.url, token=tenant.token)
    outputs = "packages.x86_64-linux = { inherit app notes; };".replace("x86_64-linux", system_type())
    folder = write_flake(person, person.folder / "flake", DEFINITIONS, outputs)
    done = person.succeed("publish", str(folder), "--name", tenant.name, "--version", "1.0.0", "--json")
    made = done.json["outputs"]
    app, notes = (made[f"packages.{system_type()}.{name}"] for name in ("app", "notes"))
    return Release(tenant, app, notes)
