"""A hub, an organization with a release, and a machine that is logged in."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from piste.host.place import system_type
from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, member, publish
from tests.running.command import Person
from tests.running.fixtures import hub
from tests.running.system import busybox, system
from tests.running.tenants import Tenant, make_tenant

__all__ = ["hub"]

NOTES = f"packages.{system_type()}.notes"
DOTTED = 'nixosConfigurations."db.example.org"'


@dataclass(frozen=True)
class Release:
    """acme/web 1.0.0: a system, the same under a name with dots, and notes."""

    tenant: Tenant
    system: Member
    notes: Member


@pytest.fixture(scope="module")
def release(hub: Hub) -> Release:
    tenant = make_tenant(hub, "acme", "web")
    shell, notes = busybox(), member("notes", "notes", b"for people")
    top = system("web", shell)
    outputs = {ATTRIBUTE: top, DOTTED: top, NOTES: notes}
    with tenant.client() as client:
        members = [shell, notes, top]
        publish(client, tenant.organization, tenant.project, "1.0.0", members, outputs=outputs)
    return Release(tenant, top, notes)


def logged_in(release: Release, folder: Path) -> Person:
    """A machine that could have everything."""
    machine = Person(folder, hub=release.tenant.hub.url, token=release.tenant.token)
    machine.succeed("login", "--trusted-key", str(release.tenant.key))
    return machine
