"""Downgrade by a rolled-back hub: its disk is put back to yesterday, and with it what it says is newest."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, publish
from tests.running.command import Person
from tests.running.nix import has
from tests.running.system import busybox, system
from tests.running.tenants import make_tenant


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub")
    try:
        yield made.start()
    finally:
        made.close()


def test_downgrade_by_a_rolled_back_hub(hub: Hub, tmp_path: Path) -> None:
    tenant = make_tenant(hub, "acme", "web")
    shell, old, new = busybox(), system("old", busybox()), system("new", busybox())
    with tenant.client() as client:
        publish(client, "acme", "web", "1.0.0", [shell, old])
    token = tenant.resolve_only("*", ATTRIBUTE)
    hub.stop()
    shutil.copytree(hub.data, tmp_path / "yesterday")
    hub.start()
    with tenant.client() as client:
        publish(client, "acme", "web", "2.0.0", [shell, new])
    host = Person(tmp_path / "host", hub=hub.url, token=token)
    host.succeed("login", "--trusted-key", str(tenant.key))
    reference = f"acme/web/*#{ATTRIBUTE}"
    assert host.succeed("apply", "nixos", reference, "--json").json["version"] == "2.0.0"

    hub.stop()
    shutil.rmtree(hub.data)
    shutil.copytree(tmp_path / "yesterday", hub.data)
    hub.start()
    refused = host.piste("apply", "nixos", reference, "--json")
    assert (refused.code, refused.problem["ref"]) == (1, "older-than-committed")
    assert not has(host, str(old.path))
    link = host.folder / "link"
    assert host.piste("fetch", reference, str(link)).code == 1 and not link.is_symlink()
    # Whoever means the older one says so, to the letter.
    exact = host.succeed("apply", "nixos", f"acme/web/=1.0.0#{ATTRIBUTE}", "--json").json
    assert (exact["version"], exact["result"]) == ("1.0.0", "committed")
