"""A NAR of several spools: the command is killed on the way again and again, gets little twice, and holds
little in memory.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from piste.lib.zstd import zstd
from piste.wire.publication import DeclaredOutput
from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, Publishing, file_nar, frame, make_source, new_path
from tests.running.command import PISTE, Person, check
from tests.running.cutting import CutLine, cut_line
from tests.running.tenants import Tenant, make_tenant
from tests.soak.test_large import COMMAND_LIMIT, MB, peak

SIZE = 700 * MB
SPEED = 150e6  # bytes a second
KILLS = (15, 35, 55, 75, 95)  # percent of the way


@dataclass
class World:
    """A release of one large path, behind a line that counts."""

    tenant: Tenant
    line: CutLine
    path: str


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    hub = Hub(tmp_path / "hub")
    try:
        hub.start()
        with cut_line(int(hub.listen.rpartition(":")[2]), SPEED) as line:
            hub.stop()
            hub.options = ("--public-url", line.url)
            tenant = make_tenant(hub.start(), "acme", "web")
            yield World(tenant, line, _publish(tenant))
    finally:
        hub.close()


def _publish(tenant: Tenant) -> str:
    draw = random.Random(1)
    nar = file_nar(b"".join(draw.randbytes(100 * MB) for _ in range(SIZE // (100 * MB))))
    large = Member(new_path("large", "cut"), nar, ())
    with tenant.client() as client:
        publishing = Publishing(client, "acme", "web", "1.0.0")
        publishing.declare([large], [DeclaredOutput(ATTRIBUTE, str(large.path))])
        publishing.upload(frame(large.nar_hash, zstd.compress(nar, level=1)))
        publishing.source(make_source("1.0.0"))
        publishing.finish()
    return str(large.path)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_nar_of_several_spools_survives_the_command_five_times(world: World, tmp_path: Path) -> None:
    line, person = world.line, Person(tmp_path / "host", hub=world.line.url, token=world.tenant.token)
    person.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(world.tenant.key)}
    argv = [str(PISTE), "fetch", f"acme/web/1#{ATTRIBUTE}", str(tmp_path / "link"), "--json"]
    running: list[subprocess.Popen[bytes]] = []
    peaks: list[int] = []

    def look() -> None:
        peaks.append(peak(Path(f"/proc/{running[-1].pid}/status").read_text()))

    def kill() -> None:
        look()
        os.kill(running[-1].pid, signal.SIGKILL)

    line.passed = 0
    line.at = [*((SIZE * part // 100, kill) for part in KILLS), (SIZE * 99 // 100, look)]
    for number in range(len(KILLS) + 1):
        running.append(
            subprocess.Popen(argv, env=person.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        )
        _, said = running[-1].communicate(timeout=300)
        killed = number < len(KILLS)
        assert running[-1].returncode == (-signal.SIGKILL if killed else 0), said.decode()
    check(person.run("nix-store", "--verify-path", world.path))
    sys.stdout.write(
        f"{SIZE // MB} MB, killed at {KILLS} %: {line.passed / MB:.0f} MB passed; at most"
        f" {max(peaks) // MB} MB in memory\n"
    )
    assert line.passed < 1.1 * SIZE
    assert max(peaks) < COMMAND_LIMIT
    assert [path.name for path in (person.root / "var/cache/piste/fetch").iterdir()] == ["lock"]
