"""`make demo` shows what it says, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.system import why_no_activation
from tests.running.command import ROOT

# What a minimal Debian has not got, or in its shell only.
LACKING = {"curl", "free", "ip", "kill", "pgrep", "pidof", "pkill", "ps", "ss", "sudo", "top", "wget", "xz"}


def demo(scratch: Path, *before: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run the demo with a scratch folder of its own; `before` stands before the command."""
    argv = [*before, sys.executable, "-m", "examples.demo.run"]
    environment = {
        "PATH": path or os.environ["PATH"],
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch),
    }
    return subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def minimal(programs: Path) -> str:
    """A search path without what a minimal Debian lacks."""
    programs.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for program in Path(folder).glob("*"):
            link = programs / program.name
            if program.name not in LACKING and not link.is_symlink():
                link.symlink_to(program)
    return str(programs)


def test_the_demo_runs_to_its_end_and_leaves_nothing_behind(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if reason := why_no_activation():
        pytest.skip(reason)
    done = demo(tmp_path, path=minimal(tmp_path_factory.mktemp("minimal") / "bin"))
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "answers: Version 1",
        "answers: Version 2",
        "$ piste apply nixos acme/web/1#nixosConfigurations.web",
        "exit code 3",
        "403 forbidden",
        "404 not-found",
        "paths, ",
        "Nothing of it is left.",
    ):
        assert line in done.stdout
    assert "\x1b[" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_where_the_kernel_gives_no_namespaces_the_demo_says_so_at_once(tmp_path: Path) -> None:
    deprived = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin"
    without = f"echo 0 > /proc/sys/user/max_user_namespaces && exec {deprived}"
    done = demo(tmp_path, "unshare", "--user", "--map-root-user", "sh", "-c", f'{without} "$@"', "sh")
    if "unshare failed" in done.stderr and "demo" not in done.stderr:
        pytest.skip("no user namespaces to take the right away in")
    assert done.returncode == 1
    assert "The demo can't run here" in done.stderr
    assert list(tmp_path.iterdir()) == []
