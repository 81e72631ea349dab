"""A hub on both engines with what there is to read: a public project with releases of every kind, one that
is unlisted, one that is private, and people of the organization and of none."""

import itertools
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tests.dialects.fh.client import Fh
from tests.hub.conftest import shared_hub
from tests.hub.process import Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE, Member

__all__ = ["shared_hub"]

SYSTEM = "x86_64-linux"
ROLLING = f"0.1.7+rev-{'d' * 40}"
REVISION = "c" * 40
SLASHED = f'packages.{SYSTEM}."a/b"'
DOTTED = f'packages.{SYSTEM}."x.y"'
FAR = "packages.aarch64-linux.far"
SAID = {
    "description": "A pad for everybody",
    "labels": ["editor", "Nix"],
    "license": "MIT",
    "repository": "https://github.com/acme-inc/pad.git",
    "revision": REVISION,
    "commit_count": 7,
}
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class World:
    """`web` is public, `quiet` unlisted, `vault` private; `rival` has one private project."""

    hub: Hub
    acme: Acme
    rival: Acme
    paths: dict[str, str]  # of version 1.10.0, by attribute path

    @property
    def org(self) -> str:
        return self.acme.organization

    @property
    def web(self) -> str:
        return f"{self.org}/web"

    @property
    def vault(self) -> str:
        return f"{self.org}/vault"

    @property
    def quiet(self) -> str:
        return f"{self.org}/quiet"

    @property
    def nobody(self) -> Fh:
        return Fh(self.hub.url)

    @property
    def member(self) -> Fh:
        return Fh(self.hub.url, self.acme.member)

    @property
    def stranger(self) -> Fh:
        return Fh(self.hub.url, self.rival.member)


@pytest.fixture(scope="module")
def world(shared_hub: Hub) -> World:
    acme, rival = Acme(shared_hub, visibility="public"), Acme(shared_hub)
    rival.publish("1.0.0", chain("rival", 1))
    for project, visibility in (("quiet", "unlisted"), ("vault", "private")):
        acme.add_project(project, visibility)
        acme.publish("1.0.0", _closure(), project=project)
    acme.publish("1.0.0", _closure())
    paths = publish(acme, "1.10.0", ATTRIBUTE, SLASHED, DOTTED)
    acme.publish("1.9.0", _closure())
    acme.publish("2.0.0-rc.1", _closure())
    acme.publish(ROLLING, _closure(), rolling=True, metadata={"revision": "d" * 40, "commit_count": 7})
    acme.publish("1.11.0", _closure())
    shared_hub.as_admin("PUT", f"{acme.base}/releases/1.11.0/yank", json={"reason": "broken"})
    return World(shared_hub, acme, rival, paths)


def publish(acme: Acme, version: str, *attributes: str, metadata: object = None) -> dict[str, str]:
    """A release with these outputs, each available, and one that is only recorded; the store paths."""
    found = {attribute: _closure()[-1] for attribute in attributes}
    far = _closure()[-1]
    filling = acme.open(version, metadata=metadata or SAID)
    outputs = [_output(attribute, path) for attribute, path in found.items()]
    outputs.append(_output(FAR, far, system="aarch64-linux", required=False))
    message = {"paths": [msgspec.to_builtins(each.declared) for each in found.values()], "outputs": outputs}
    answer = acme.ask("POST", f"{filling.place}/declarations", json=message)
    assert answer.status == 200, answer.body
    filling.upload(*(each.frame for each in found.values()))
    filling.source()
    assert filling.finish().status == 200
    return {attribute: str(path.path) for attribute, path in {**found, FAR: far}.items()}


def _output(attribute: str, path: Member, system: str = SYSTEM, *, required: bool = True) -> dict[str, Any]:
    return {"attribute": attribute, "store_path": str(path.path), "system": system, "required": required}


def _closure() -> list[Member]:
    return chain(f"app{next(_NUMBERS)}", 1)
