"""Debian packages in two versions, an older one and its security update, as this system's own apt has both.

Which versions those are is found out; apt verifies what it downloads. They lie in the cache afterwards.
"""

import functools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.provision.place import CACHE, SetupError, run

_FOLDER: Final = CACHE / "bench" / "updates"
# Libraries, programs, scripts, data; small and large.
PACKAGES: Final = (
    "apache2-bin",
    "bind9-libs",
    "git",
    "libc6",
    "libcurl4",
    "libpython3.11-stdlib",
    "libssl3",
    "libsystemd0",
    "libxml2",
    "nginx",
    "openssh-server",
    "openssl",
    "perl-base",
    "php8.2-cli",
    "postgresql-15",
    "python3.11-minimal",
    "samba-libs",
    "sudo",
    "systemd",
    "tzdata",
)


@dataclass(frozen=True)
class Update:
    """A package with the folders that its two versions were unpacked to."""

    package: str
    old: Path
    new: Path
    versions: tuple[str, str]


def updates() -> list[Update]:
    """Of the packages those that apt has in two versions."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return []
    found = []
    for package in PACKAGES:
        versions = _versions(package)
        if len(versions) < 2:
            continue
        try:
            old, new = (_unpacked(package, version) for version in (versions[0], versions[-1]))
        except SetupError:
            continue  # a version that the lists still have and the mirror no more
        found.append(Update(package, old, new, (versions[0], versions[-1])))
    return found


def _versions(package: str) -> list[str]:
    """The oldest first."""
    lines = run(["apt-cache", "madison", package]).splitlines()
    versions = {line.split("|")[1].strip() for line in lines if line.count("|") >= 2}
    return sorted(versions, key=functools.cmp_to_key(_compare))


def _compare(one: str, other: str) -> int:
    older = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False)
    return -1 if older.returncode == 0 else 1


def _unpacked(package: str, version: str) -> Path:
    folder = _FOLDER / f"{package}_{version.replace(':', '%3a')}"
    if folder.exists():
        return folder
    archives = folder.with_suffix(".archive")
    archives.mkdir(parents=True, exist_ok=True)
    run(["apt-get", "-qq", "download", f"{package}={version}"], cwd=archives)
    (archive,) = archives.glob("*.deb")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    run(["dpkg-deb", "-x", str(archive), str(partial)])
    shutil.rmtree(archives)
    partial.rename(folder)
    return folder
