"""Real Nix, in three versions, each test with a store of its own in a scratch folder."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RELEASES = ("forky", "trixie", "bookworm")


class RealNix:
    """Runs the commands of one Nix on a chroot store; nothing outside of its folder is touched."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self.store = f"local?root={folder / 'root'}"
        self.environment = {
            "PATH": f"{binaries}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "NIX_REMOTE": self.store,
            "NIX_STATE_DIR": str(folder / "root/nix/var/nix"),
            "NIX_USER_CONF_FILES": "",
        }
        (folder / "home").mkdir(parents=True)

    def run(self, *arguments: str | Path, data: bytes = b"") -> bytes:
        """What the command prints; it has to succeed."""
        done = self.attempt(*arguments, data=data)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def attempt(self, *arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            list(map(str, arguments)), env=self.environment, input=data, capture_output=True, check=False
        )

    def daemon(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["nix-daemon", "--stdio", "--store", self.store],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


def _real_nix(release: str, folder: Path) -> RealNix:
    binaries = ROOT / ".cache/nix" / release / "bin"
    if not (binaries / "nix").exists():
        pytest.skip(f"the portable Nix of Debian {release} is not there: `make setup-dev` brings it")
    return RealNix(binaries, folder / "nix")


@pytest.fixture(params=RELEASES)
def nix(request: pytest.FixtureRequest, tmp_path: Path) -> RealNix:
    """Each of the versions in turn."""
    return _real_nix(request.param, tmp_path)


@pytest.fixture
def newest_nix(tmp_path: Path) -> RealNix:
    return _real_nix("forky", tmp_path)
