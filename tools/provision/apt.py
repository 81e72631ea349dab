"""Debian packages without installing them: downloads that apt verifies, into a folder of ours.

Debian keeps only the current version of a package, so its hash can't be locked: trust is apt's own chain,
from the keyring that the system has through the signed Release file to the hash of each package. Nothing here
ever switches a part of that chain off, needs root, or touches the system's lists.
"""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.provision.place import SetupError, run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_SUITES = frozenset({"bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable"})
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class ExpiredReleaseError(SetupError):
    """The mirror stands still: the suite's signed index says itself that it is too old to be trusted."""


@dataclass(frozen=True)
class Apt:
    """A private configuration of apt for one suite."""

    folder: Path
    config: Path

    def download(self, *packages: str) -> list[Path]:
        """Fetches packages and all that they depend on, each verified; returns the archives."""
        self._apt_get("--download-only", "install", *packages)
        return sorted((self.folder / "archives").glob("*.deb"))

    def download_alone(self, package: str) -> Path:
        """Fetches one package without what it depends on."""
        self._apt_get("download", package)
        (archive,) = self.folder.glob(f"{package}_*.deb")
        return archive

    def update(self) -> None:
        """Fetches the index of the suite and verifies its signature."""
        done = subprocess.run(
            ["apt-get", f"-c={self.config}", "-qq", "update"], capture_output=True, text=True, check=False
        )
        # apt exits 0 with warnings when a list could not be had, and would then know no package.
        if "is expired" in done.stderr or "is not valid yet" in done.stderr:
            raise ExpiredReleaseError(done.stderr.strip())
        if done.returncode != 0 or not list((self.folder / "lists").glob("*Packages*")):
            raise SetupError(f"the package index could not be fetched:\n{done.stderr.strip()}")

    def _apt_get(self, *arguments: str) -> None:
        run(["apt-get", f"-c={self.config}", "-qq", "-y", *arguments], cwd=self.folder)


def architecture() -> str:
    """Debian's name of this machine's processor."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise SetupError(f"a portable Nix can be had for {', '.join(ARCHITECTURES)}, and this is {machine}")
    return ARCHITECTURES[machine]


def available() -> bool:
    """Whether this system has what a verified download needs."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg") and KEYRING.exists())


def private_apt(suite: str, folder: Path) -> Apt:
    """Writes a configuration under which apt knows one suite and nothing of what the system has installed."""
    if not available():
        raise SetupError(
            "downloads are verified by apt and Debian's keyring, and this system lacks them.\n"
            "Put Nix 2.18 or newer on PATH, or on Debian: apt-get install debian-archive-keyring"
        )
    for part in ("lists/partial", "archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(
        f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n", encoding="utf-8"
    )
    config = folder / "apt.conf"
    config.write_text(_CONFIG.format(folder=folder, architecture=architecture()), encoding="utf-8")
    return Apt(folder, config)


def mirror() -> str:
    """The mirror that this machine takes Debian from; `PISTE_DEBIAN_MIRROR` names another."""
    if named := os.environ.get("PISTE_DEBIAN_MIRROR"):
        return named
    lines = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"]
    ).splitlines()
    for line in lines:
        uri, release, component = line.split("|")
        if release in DEBIAN_SUITES and component == "main" and "security" not in uri:
            return uri
    raise SetupError(
        "no Debian mirror stands in this system's apt sources: set PISTE_DEBIAN_MIRROR to the address of one"
    )


# Read last, by -c: the machine's own proxies, certificates and dates stay in force. The #clear lines keep
# container images' hooks from deleting the system's package cache after every update of ours.
_CONFIG = """\
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::State::extended_states "{folder}/extended_states";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Log "{folder}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Architectures {{ "{architecture}"; }};
APT::Architecture "{architecture}";
Acquire::Languages "none";
"""
