"""A machine with a systemd of its own, which can be switched off at any moment, and started again."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from piste.host.activate import UNIT
from tests.hub.process import wait_for
from tests.running.command import ROOT, Finished
from tests.systemd.debian import SITE, layers

_BOOT_SECONDS = 60.0
# The cgroup is left again, since one that is in use can't be removed.
_WORLD = """
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mount -t overlay none -o "lowerdir=$LAYERS,upperdir=$FOLDER/upper,workdir=$FOLDER/work" "$FOLDER/root"
group=/sys/fs/cgroup/piste-$$
mkdir "$group"
echo $$ > "$group/cgroup.procs"
systemd-nspawn --quiet --keep-unit --register=no --console=pipe --notify-ready=yes --kill-signal=SIGRTMIN+3 \
    --directory="$FOLDER/root" --machine=web --bind-ro="$SOURCE:/opt/piste/src" /usr/local/sbin/boot || true
echo $$ > /sys/fs/cgroup/cgroup.procs
find "$group" -depth -type d -exec rmdir {} +
"""
# The boot loader: the entry that was written last, or Debian before there is one.
_BOOT = """#!/bin/sh
[ ! -e /boot/loader/loader.conf ] || exec "$(sed -n 's/^default //p' /boot/loader/loader.conf)/init"
exec /usr/lib/systemd/systemd
"""
_PISTE = f"""#!/bin/sh
export PYTHONPATH=/opt/piste/src:{SITE} PYTHONPYCACHEPREFIX=/var/cache/piste
exec python3 -c 'from piste.cli.main import main; main()' "$@"
"""


@dataclass
class Machine:
    """Files below a folder, which stay, and a systemd, which comes and goes."""

    folder: Path
    hub: str
    leader: int = 0  # the number of its first process, as we see it
    boot_seconds: list[float] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True)
        self._write("usr/local/sbin/boot", _BOOT, 0o755)
        self._write("usr/local/bin/piste", _PISTE, 0o755)
        self._write("etc/hostname", "web\n")

    def _write(self, place: str, text: str, mode: int = 0o644) -> None:
        file = self.folder / "upper" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def boot(self) -> None:
        """Start, and wait until systemd says that it is up."""
        began = time.monotonic()
        address = self.folder / "notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(address))
            told.settimeout(_BOOT_SECONDS)
            self._process = self._start(address)
            facts: dict[str, str] = {}
            while facts.get("READY") != "1":
                lines = told.recv(4096).decode().splitlines()
                facts |= dict(line.split("=", 1) for line in lines if "=" in line)
        self.leader = int(facts["X_NSPAWN_LEADER_PID"])
        self.boot_seconds.append(time.monotonic() - began)

    def _start(self, address: Path) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "LAYERS": ":".join(map(str, layers())),
            "FOLDER": str(self.folder),
            "SOURCE": str(ROOT / "src"),
            "NOTIFY_SOCKET": str(address),
        }
        with (self.folder / "console").open("ab") as console:
            argv = ["unshare", "--mount", "sh", "-ec", _WORLD]
            return subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )

    def switch_off(self) -> None:
        """As if the power went: no process of it does anything more."""
        os.kill(self.leader, signal.SIGKILL)
        self._wait()

    def close(self) -> None:
        """Gone, whatever state it was in, with all of its files."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)
            self._wait()
        shutil.rmtree(self.folder)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(30)

    def argv(self, *command: str) -> list[str]:
        """A command as root of the machine would run it in a session."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PISTE_HUB": self.hub,
        }
        given = [f"{name}={value}" for name, value in environment.items()]
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup"]
        enter = ["nsenter", f"--target={self.leader}", *spaces]
        return [*enter, "/usr/bin/env", "--ignore-environment", "--chdir=/root", *given, *command]

    def run(self, *command: str, data: str = "") -> Finished:
        """Run a command in the machine, whatever comes of it."""
        argv = self.argv(*command)
        done = subprocess.run(argv, input=data, capture_output=True, text=True, timeout=120, check=False)
        return Finished(done.returncode, done.stdout, done.stderr)

    def ask(self, *command: str) -> str:
        """What a command prints that has to succeed."""
        done = self.run(*command)
        assert done.code == 0, f"{' '.join(command)} ended with {done.code}:\n{done.stderr}"
        return done.stdout.strip()

    def start(self, *command: str) -> "Started":
        """Begin a command in the machine."""
        argv, pipe = self.argv(*command), subprocess.PIPE
        return Started(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe))

    def file(self, path: str) -> Path:
        """A file of the machine, seen from outside."""
        return Path(f"/proc/{self.leader}/root") / path.lstrip("/")

    @contextmanager
    def gate(self) -> Iterator["Gate"]:
        """The next activation waits in its middle, until it is let through."""
        place = self.file("/run/gate")
        os.mkfifo(place)
        gate = Gate(place)
        try:
            yield gate
        finally:
            gate.open()

    @property
    def switching(self) -> bool:
        """Whether an activation is under way."""
        state = self.run("systemctl", "is-active", UNIT).stdout.strip()
        return state in ("active", "activating", "deactivating")

    def wait_until_switched(self) -> None:
        wait_for(lambda: not self.switching, 30)

    @property
    def running(self) -> str:
        return self.ask("readlink", "/run/current-system")

    @property
    def profile(self) -> str:
        return self.ask("readlink", "--canonicalize", "/nix/var/nix/profiles/system")

    @property
    def boots(self) -> str:
        """What the boot loader would start."""
        return self.ask("cat", "/boot/loader/loader.conf").split()[1]


@dataclass
class Started:
    """A command that runs in the machine."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """SIGKILL to the command itself, and not only to what entered the machine for it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        self.end()

    def end(self) -> Finished:
        """What came of it."""
        stdout, stderr = self.process.communicate(timeout=120)
        return Finished(self.process.returncode, stdout.decode(), stderr.decode())


class Gate:
    """Where an activation waits."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._file: int | None = None
        self._opened = False

    def reached(self, seconds: float = 60) -> None:
        """Wait until an activation is there."""
        got = threading.Event()

        def look() -> None:
            self._file = os.open(self._place, os.O_WRONLY)
            got.set()

        threading.Thread(target=look, daemon=True).start()
        assert got.wait(seconds), "no activation has come to the gate"

    def open(self) -> None:
        """Let it through; nobody waits there any more."""
        self._place.unlink(missing_ok=True)
        if self._file is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._file, b"go on\n")
            os.close(self._file)
            self._file = None
