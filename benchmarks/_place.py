"""Where a benchmark happens: a scratch folder in memory, a hub in it, people with stores of their own.

All of it is on loopback, and gone at the end.
"""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks._cpu import CpuGroup, cpu_group
from examples.demo.scratch import remove
from piste.nix.signature import PublicKey
from tests.hub.process import Hub, wait_for
from tests.running.command import PISTE, Person
from tests.running.tenants import Tenant, make_tenant
from tools.provision.place import CACHE

_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 2 << 30
_STARTS: Final = 30.0
_LISTENING: Final = re.compile(r"^Listening on (http://127\.0\.0\.1:\d+),", re.MULTILINE)


class QuietHub(Hub):
    """A hub whose log goes to a file, as it would to a journal: nobody reads along while it is measured.
    `cpu` counts what it uses, over all its starts, where `Place.hub` made it."""

    cpu: CpuGroup = CpuGroup(None)

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.data.name}-{id(self)}.log")

    def start(self) -> "QuietHub":
        before = self.log.stat().st_size if self.log.exists() else 0
        argv = [str(PISTE), "hub", "serve", "--data", str(self.data), "--listen", self.listen, *self.options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.cpu.joining(argv),
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=self._environment(),
                text=True,
            )
        self.cpu.add(self._process.pid)
        wait_for(lambda: self._announced(before) or self.process.poll() is not None, _STARTS)
        self.url = self._announced(before)
        if not self.url:
            raise SystemExit("the hub did not start:\n" + self.log.read_text()[-2000:])
        self.listen = self.url.removeprefix("http://")
        return self

    def requests(self) -> int:
        """How many it has answered; of those that it answered from memory within the last second maybe
        not all."""
        from_memory = sum(int(line["count"]) for line in self._lines("requests"))
        return len(self.answers()) + from_memory

    def answers(self) -> list[dict[str, Any]]:
        """What the log says of each request; those that were answered from memory are not among them."""
        return self._lines("request")

    def _lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def _announced(self, start: int) -> str:
        found = _LISTENING.search(self.log.read_text()[start:])
        return found[1] if found else ""


class Place:
    """The scratch folder, and what stands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)

    @property
    def kind(self) -> str:
        """What holds the stores and the hub's data."""
        argv = ["df", "--output=fstype", str(self.folder)]  # `stat` has one name for ext2, ext3 and ext4
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[-1]

    def new(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._numbers)}"

    @contextmanager
    def hub(self, *options: str, beside: QuietHub | None = None) -> Iterator[QuietHub]:
        """A hub on data of its own, or one more process on the data of another."""
        hub = QuietHub(self.new("hub"), options=options)
        own = hub.data
        if beside is not None:
            hub.data = beside.data
        with cpu_group() as hub.cpu:
            try:
                yield hub.start()
            finally:
                hub.close()
                shutil.rmtree(own, ignore_errors=True)

    @contextmanager
    def person(self, tenant: Tenant | None = None, token: str | None = None) -> Iterator[Person]:
        """Somebody with an empty store, who trusts the tenant's key and has a token for its hub."""
        person = Person(self.new("person"))
        if tenant is not None:
            person.hub, person.token = tenant.hub.url, token or tenant.token
            person = trusting(person, tenant.hub.url, tenant.token, tenant.key)
        try:
            yield person
        finally:
            remove(person.folder)


def trusting(person: Person, url: str, token: str, key: PublicKey) -> Person:
    """With all that piste and stock Nix need to fetch from the hub. For Nix the token is in a netrc, and all
    else is as Nix has it by itself."""
    netrc = person.folder / "netrc"
    netrc.touch(mode=0o600)
    netrc.write_text(f"machine {urlsplit(url).hostname} login anybody password {token}\n")
    person.extra = {
        **person.extra,
        "NIX_CONFIG": f"netrc-file = {netrc}\ntrusted-public-keys = {key}",
        "PISTE_TRUSTED_PUBLIC_KEYS": str(key),
    }
    return person


@contextmanager
def scratch(*, on_disk: bool = False) -> Iterator[Place]:
    """A folder in memory where there is enough of it: on a disk the same steps vary by a factor of four."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    usable = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    parent: Path | None = _MEMORY if usable else None
    if on_disk:
        parent = CACHE / "bench"  # the folder of temporary files is memory on many a machine
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="piste-bench-", dir=parent))
    try:
        yield Place(folder)
    finally:
        remove(folder)


def acme(hub: Hub, visibility: str = "private") -> Tenant:
    """The organization and the project that everything is published to."""
    return make_tenant(hub, "acme", "web", visibility)
