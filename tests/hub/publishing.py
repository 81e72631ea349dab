"""An organization with a project on a running hub, and publications to it request by request."""

import io
import itertools
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.hub.process import Answer, Hub
from tests.running.closures import ATTRIBUTE, Member, make_source, member

REVISION = "a" * 40
_NUMBERS = itertools.count(1)


@dataclass
class Acme:
    """An organization of its own with the project `web`, and a member who publishes."""

    hub: Hub
    visibility: str = "private"
    organization: str = field(default_factory=lambda: f"Acme{next(_NUMBERS)}")
    project: str = "web"
    member: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.hub.as_admin("POST", "/api/v1/organizations", json={"name": self.organization})
        self.member = self.hub.make_member(self.organization, f"{self.organization}-publisher")
        self.add_project(self.project, self.visibility)

    def add_project(self, name: str, visibility: str = "private") -> None:
        self.hub.as_admin(
            "POST",
            f"/api/v1/organizations/{self.organization}/projects",
            json={"name": name, "visibility": visibility},
        )

    @property
    def base(self) -> str:
        return f"/api/v1/projects/{self.organization}/{self.project}"

    @property
    def cache(self) -> str:
        return f"/cache/{self.organization}/{self.project}"

    def ask(self, method: str, path: str, **more: Any) -> Answer:
        """As the publisher."""
        more.setdefault("token", self.member)
        return self.hub.request(method, path, **more)

    def open(
        self, version: str = "1.0.0", project: str | None = None, *, token: str | None = None, **fields: Any
    ) -> "Filling":
        base = f"/api/v1/projects/{self.organization}/{project or self.project}"
        asked = {"version": version, "metadata": {"revision": REVISION}, **fields}
        answer = self.ask("POST", f"{base}/publications", json=asked, token=token or self.member)
        assert answer.status in (200, 201), answer.body
        return Filling(self, f"{base}/publications/{answer.json()['id']}", answer.json())

    def publish(
        self,
        version: str,
        closure: Sequence[Member],
        *,
        attribute: str = ATTRIBUTE,
        project: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """A whole release; what `finish` answers."""
        filling = self.open(version, project, **fields)
        filling.declare(closure, {attribute: closure[-1]})
        filling.upload_missing(closure)
        filling.source()
        answer = filling.finish()
        assert answer.status == 200, answer.body
        published: dict[str, Any] = answer.json()
        return published

    def resolve(self, requirement: str, attribute: str = ATTRIBUTE, **more: Any) -> Answer:
        return self.ask("GET", f"{self.base}/resolve/{requirement}/{attribute}?token=true", **more)

    def narinfo(self, path: Member, **more: Any) -> Answer:
        return self.ask("GET", f"{self.cache}/{path.path.hash_part}.narinfo", **more)


@dataclass
class Filling:
    """An open publication."""

    acme: Acme
    place: str
    opened: dict[str, Any]
    missing: list[str] = field(default_factory=list)

    def send(
        self, closure: Sequence[Member], outputs: Mapping[str, Member], *, required: bool = True
    ) -> Answer:
        message = {
            "paths": [msgspec.to_builtins(each.declared) for each in closure],
            "outputs": [
                {"attribute": attribute, "store_path": str(each.path), "required": required}
                for attribute, each in outputs.items()
            ],
        }
        return self.acme.ask("POST", f"{self.place}/declarations", json=message)

    def declare(
        self, closure: Sequence[Member], outputs: Mapping[str, Member], *, required: bool = True
    ) -> dict[str, Any]:
        answer = self.send(closure, outputs, required=required)
        assert answer.status == 200, answer.body
        self.missing = answer.json()["missing"]
        declared: dict[str, Any] = answer.json()
        return declared

    def upload(self, *frames: bytes) -> Answer:
        return self.acme.ask("POST", f"{self.place}/nars", body=b"".join(frames))

    def upload_missing(self, closure: Sequence[Member]) -> None:
        wanted = [each for each in closure if each.path.base_name in self.missing]
        answer = self.upload(*(each.frame for each in wanted))
        assert answer.status == 200, answer.body

    def source(self, data: bytes | None = None) -> Answer:
        return self.acme.ask(
            "PUT", f"{self.place}/source", body=data if data is not None else make_source("a flake")
        )

    def finish(self) -> Answer:
        return self.acme.ask("POST", f"{self.place}/finish")


def chain(name: str, length: int = 3, content: bytes = b"") -> list[Member]:
    """A closure in which each path refers to the one before; dependencies first."""
    made: list[Member] = []
    for number in range(length):
        references = [made[-1].path] if made else []
        made.append(member(f"{name}-{number}", (name, number, content), content, references))
    return made


def make_tar(files: Mapping[str, bytes | tarfile.TarInfo], *, mode: str = "w:gz") -> bytes:
    """An archive of exactly these entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, what in files.items():
            if isinstance(what, tarfile.TarInfo):
                archive.addfile(what)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(what)
            archive.addfile(entry, io.BytesIO(what))
    return buffer.getvalue()


def stored_files(hub: Hub, kind: str) -> list[str]:
    """Names of the objects of a kind, or of what is left in the spool."""
    return sorted(file.name for file in (hub.data / "objects" / kind).rglob("*") if file.is_file())
