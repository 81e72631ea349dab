"""The folder that all of the demo happens in: made, checked for what it needs, and removed again."""

import contextlib
import os
import platform
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

from examples.demo.actors import Actor, StopError

EXAMPLE = Path(__file__).resolve().parents[1] / "system"
_TRIES = 25  # a fifth of a second apart
BUSYBOX = Path(__file__).resolve().parents[2] / ".cache/nix/bin/busybox"


def check_machine() -> None:
    """StopError where this machine can't build and run a system in a folder."""
    if shutil.which("nix") is None or not BUSYBOX.exists():
        raise StopError("There is no Nix here yet: run `make demo`, which brings one into this folder.")
    argv = (
        ["unshare", "--mount", "true"]
        if os.geteuid() == 0
        else ["unshare", "--map-root-user", "--mount", "true"]
    )
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    who = (
        "root, but without the right to make namespaces (CAP_SYS_ADMIN)"
        if os.geteuid() == 0
        else "an ordinary user"
    )
    raise StopError(
        f"The demo can't run here: this is {who}, and the kernel gives no user namespaces either"
        f" ({done.stderr.strip()}).\n"
        "Nix needs one of the two to build in a folder of its own, and the demo to run the system in one.\n"
        "Run it as root on a whole machine; or as a user where `unshare -Ur true` works"
        " (Debian: sysctl kernel.unprivileged_userns_clone=1; Docker: --security-opt seccomp=unconfined,"
        " or --privileged)."
    )


def make() -> Path:
    """A new folder with a short name, for the user alone."""
    return Path(tempfile.mkdtemp(prefix="piste-demo-"))


def lay_out_system(actor: Actor) -> Path:
    """A copy of the example in a Git repository, with a busybox beside it."""
    source = actor.folder / "system"
    shutil.copytree(EXAMPLE, source)
    (source / "busybox").mkdir()
    shutil.copy2(BUSYBOX, source / "busybox/busybox")
    (source / "busybox/system").write_text(f"{system_type()}\n")
    actor.quietly("git", "-C", "system", "init", "--quiet", "--initial-branch", "main")
    commit(actor, "A system")
    return source


def commit(actor: Actor, message: str) -> None:
    """Everything in the repository, as a commit."""
    actor.quietly("git", "-C", "system", "add", "--all")
    who = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost")
    actor.quietly("git", "-C", "system", *who, "commit", "--quiet", "--message", message)


def system_type() -> str:
    return f"{platform.machine()}-linux"


def give_port(host: Actor) -> int:
    """A free port, written where the machine's service looks for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    file = host.root / "var/lib/web/port"
    file.parent.mkdir(parents=True)
    file.write_text(f"{port}\n")
    return port


def stop_service(host: Actor) -> None:
    """End the service that the host runs, and an activation that was left in the middle, if there are any."""
    number = signal.SIGTERM
    for _ in range(_TRIES):
        running = _running_under(host.root)
        if not running:
            return
        for pid in running:
            # Not the program `kill`: a minimal Debian has none outside of its shell.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.2)
        number = signal.SIGKILL


def _running_under(root: Path) -> list[int]:
    """Processes that see this folder as their root."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # Those of others can't be looked at, and some end meanwhile.
        with contextlib.suppress(OSError):
            if (process / "root").readlink() == root:
                found.append(int(process.name))
    return found


def remove(folder: Path) -> None:
    """All of it. Where the demo was ended in the middle, a builder may still be about to end, and write."""
    for _ in range(_TRIES - 1):
        try:
            _remove(folder)
        except OSError:
            time.sleep(0.2)
        else:
            return
    _remove(folder)


def _remove(folder: Path) -> None:
    """What is in a Nix store is read-only and has to be made writable first."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(stat.S_IRWXU)
    shutil.rmtree(folder)
