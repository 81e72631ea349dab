"""A push or a publication that was killed in the middle sends only what had not arrived, when begun anew."""

import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from piste.host.place import system_type
from tests.attacks.liar import running_liar
from tests.hub.process import wait_for
from tests.running.command import PISTE, Person
from tests.running.nix import build, write_flake
from tests.running.tenants import Tenant

COUNT, SIZE, ARRIVE = 8, 3_000_000, 3
# Each goes in a request of its own.
PARTS = "".join(
    f'p{each} = run "anew-{each}" "head -c {SIZE} /dev/urandom > $out; : NONCE";' for each in range(COUNT)
)
TOP = f'run "anew" "echo {" ".join(f"${{p{each}}}" for each in range(COUNT))} > $out"'


@dataclass
class Killing:
    """Lets some uploads through, and kills whoever sends another one."""

    process: "subprocess.Popen[bytes] | None" = None
    passed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_on(self, path: str) -> str:
        if not path.endswith("/nars"):
            return path
        with self._lock:
            self.passed += 1
            if self.passed <= ARRIVE:
                return path
            if self.process is not None and self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)
            return "/nowhere"


@pytest.mark.parametrize("verb", ["cache push", "publish"])
def test_what_had_arrived_whole_is_not_sent_again(
    publisher: Person, tenant: Tenant, tmp_path: Path, verb: str
) -> None:
    parts = PARTS.replace("NONCE", os.urandom(8).hex())
    if verb == "publish":
        outputs = f"packages.{system_type()}.default = {TOP};"
        flake = write_flake(publisher, tmp_path / "flake", parts, outputs)
        argv = ["publish", str(flake), "--version", "1.0.0"]
    else:
        argv = ["cache", "push", build(publisher, parts, TOP)]
    argv += ["--name", tenant.name, "--json"]
    killing, before = Killing(), _uploads(tenant)
    with running_liar(tenant.hub.url) as line:
        line.detour = killing.pass_on
        behind = Person(publisher.folder, line.url, tenant.token)
        killing.process = subprocess.Popen(
            [str(PISTE), *argv], env=behind.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        _, said = killing.process.communicate(timeout=120)
        assert killing.process.returncode == -signal.SIGKILL, said.decode()
        wait_for(lambda: _uploads(tenant) == before + ARRIVE)
    done = publisher.succeed(*argv).json
    assert done["paths_uploaded"] == COUNT + 1 - ARRIVE
    assert done["bytes_uploaded"] < (COUNT - ARRIVE + 0.5) * SIZE


def _uploads(tenant: Tenant) -> int:
    """How many the hub has taken."""
    lines = tenant.hub.log_lines("request")
    return sum(line["route"].endswith("/nars") and line["status"] == 200 for line in lines)
