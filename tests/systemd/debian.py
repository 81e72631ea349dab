"""The file system of a machine that boots: Debian with systemd, Nix and the packages that piste needs.

Made once by debootstrap, which takes about a minute and a network, and kept below `.cache`.
"""

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.running.command import ROOT
from tools.provision.apt import mirror
from tools.provision.place import TOOLS, fingerprint, run
from tools.provision.python_env import ensure_tools, uv_environment

SUITE, PYTHON = "trixie", "3.13"
# The last but one is what another of them names by a virtual name, which debootstrap doesn't follow.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "nix-bin", "libdbi-perl", "ca-certificates")
SITE = "/opt/piste/site"
_FOLDER = ROOT / ".cache/machines"
_LOCK = ROOT / "requirements/run.lock"
# What a machine does at its start, in a world of its own: all of it has to be allowed.
_TRIAL = """
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "$1/lower" "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/root"
"""


@cache
def why_no_machine(folder: Path) -> str | None:
    """Why nothing can boot here, with its files below `folder`; None if it can."""
    if os.geteuid() != 0:
        return "a machine that boots needs root"
    search = os.environ["PATH"] + ":/usr/sbin:/sbin"
    tools = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap", "nsenter": "util-linux"}
    absent = [package for tool, package in tools.items() if shutil.which(tool, path=search) is None]
    if absent:
        return f"a machine that boots needs what is not there: apt-get install {' '.join(absent)}"
    argv = ["unshare", "--mount", "sh", "-ec", _TRIAL, "sh", str(folder)]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"a machine that boots needs a cgroup2 and an overlay of its own: {tried.stderr.strip()}"
    return None


def layers() -> tuple[Path, Path]:
    """What a machine's file system consists of, the upper one first."""
    system = _FOLDER / f"{SUITE}-{fingerprint(SUITE, *PACKAGES)[:12]}"
    if not system.exists():
        _make_system(system)
    packages = _FOLDER / f"packages-{fingerprint(PYTHON, _LOCK)[:12]}"
    if not packages.exists():
        _make_packages(packages, system)
    return packages, system


def _make_system(folder: Path) -> None:
    new = _fresh(folder)
    included = f"--include={','.join(PACKAGES)}"
    run(["debootstrap", "--variant=minbase", included, SUITE, new, mirror()], env=_with_sbin())
    for leftover in (new / "var/cache/apt/archives").glob("*.deb"):
        leftover.unlink()
    # The first boot draws another one for each machine.
    (new / "etc/machine-id").write_text("")
    (new / "etc/NIXOS").touch()
    new.rename(folder)


def _make_packages(folder: Path, system: Path) -> None:
    """By uv, for the machine's Python and not for ours; compiled, as an installation would have them."""
    new = _fresh(folder)
    ensure_tools()
    where: list[str | Path] = ["--target", new / SITE.lstrip("/"), "--python-version", PYTHON]
    what = ["--python-platform", f"{platform.machine()}-unknown-linux-gnu", "--require-hashes", "--no-deps"]
    run([TOOLS / "bin/uv", "pip", "install", *where, *what, "-r", _LOCK], env=uv_environment())
    compile_all = 'mount --bind "$1" "$2/mnt" && chroot "$2" python3 -m compileall -q /mnt'
    run(["unshare", "--mount", "sh", "-ec", compile_all, "sh", new, system], env=_with_sbin())
    new.rename(folder)


def _fresh(folder: Path) -> Path:
    """An empty folder beside the one that is to be, which it becomes once it is whole."""
    new = folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    return new


def _with_sbin() -> dict[str, str]:
    return dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
