"""What the tests of a host share: a machine in a folder, with real Nix."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from piste.host.journal import Journal
from piste.host.place import Host
from piste.host.records import Kind, Watcher
from tests.host.system import (
    build_toplevel,
    example_source,
    page_of,
    service_port,
    why_no_activation,
    with_page,
)
from tests.running.command import Person


class Heard(Watcher):
    """Remembers what the engine told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        self.lines.append(text)

    def detail(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Machine:
    """A root folder that stands for a machine, and the source of the systems that it runs."""

    person: Person
    source: Path
    port: int
    heard: Heard = field(default_factory=Heard)

    @property
    def host(self) -> Host:
        return Host.at("auto", self.person.root)

    @property
    def journal(self) -> Journal:
        return Journal(self.host.state_folder(Kind.NIXOS))

    @property
    def page(self) -> str | None:
        return page_of(self.port)

    @property
    def boots(self) -> str:
        """What the boot loader would start."""
        entry = self.person.root / "boot/loader/loader.conf"
        return entry.read_text().split()[1] if entry.exists() else ""

    def build(self, page: str) -> str:
        """A system with this page, in the machine's own store."""
        with_page(self.person, self.source, page)
        return build_toplevel(self.person, self.source)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    if reason := why_no_activation():
        pytest.skip(reason)
    for name in ("PISTE_HUB", "PISTE_TOKEN", "PISTE_TOKEN_FILE", "PISTE_TRUSTED_PUBLIC_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PISTE_CONFIG_HOME", str(tmp_path / "config"))
    person = Person(tmp_path)
    with service_port(person.root) as port:
        yield Machine(person, example_source(person, tmp_path / "source"), port)
