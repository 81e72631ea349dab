"""The example system, built by real Nix into the store of a root folder, with a page of one's own."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from piste.host.place import system_type
from tests.running.command import ROOT, Person, check
from tests.running.nix import commit

EXAMPLE = ROOT / "examples/system"
TOPLEVEL = "nixosConfigurations.web.config.system.build.toplevel"


def example_source(person: Person, folder: Path) -> Path:
    """The example with a busybox beside it, in a Git repository."""
    shutil.copytree(EXAMPLE, folder)
    (folder / "busybox").mkdir()
    shutil.copy2(ROOT / ".cache/nix/bin/busybox", folder / "busybox")
    (folder / "busybox/system").write_text(system_type() + "\n")
    check(person.run("git", "init", "-q", "-b", "main", cwd=folder))
    commit(person, folder, "A system")
    return folder


def with_page(person: Person, source: Path, text: str) -> None:
    """Another page; an empty text leaves none, and the service then fails to start."""
    page = source / "page/index.html"
    if text:
        page.write_text(text)
    else:
        page.unlink(missing_ok=True)
        (source / "page/nothing").write_text("There is no page.\n")
    commit(person, source, text or "no page")


def build_toplevel(person: Person, source: Path) -> str:
    """The store path of the system, built in the person's store."""
    argv = ["nix", "build", "--no-link", "--print-out-paths", f"{source}#{TOPLEVEL}"]
    return check(person.run(*argv), argv)


def page_of(port: int) -> str | None:
    """What the service answers, None where nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


@contextmanager
def service_port(root: Path) -> Iterator[int]:
    """A port of the machine at `root` for its service, which ends with the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    file = root / "var/lib/web/port"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{port}\n")
    try:
        yield port
    finally:
        pid_file = root / "run/web.pid"
        if pid_file.exists():
            with suppress(ProcessLookupError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)


@cache
def why_no_activation() -> str | None:
    """Why this machine can't run a system in a folder; None if it can."""
    try:
        done = subprocess.run([*entrance(Path("/")), "true"], capture_output=True, check=False)
    except FileNotFoundError as error:
        return f"{error.filename} is not there"
    return None if done.returncode == 0 else "neither root nor user namespaces are to be had here"


def entrance(root: Path) -> list[str]:
    """What stands before a command that is to see a folder as the root of its machine."""
    # Where an ordinary user of Debian does not look.
    chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "chroot"
    before = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    return [*before, chroot, str(root)]
