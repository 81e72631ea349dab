"""Set-up itself: what it says, that it does nothing twice, and what it leaves."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.setup.nix import ROOT
from tools.provision import portable_nix, system_nix
from tools.provision.apt import ExpiredReleaseError
from tools.provision.portable_nix import ALL_SUITES

# Every way out ends at a port of this machine where nobody listens.
NO_NETWORK = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}
BUILD = """derivation { name = "probe"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "echo built > $out" ]; }"""


def test_a_second_run_says_nothing_and_needs_no_network() -> None:
    done = _set_up(ROOT, "--dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_clone_that_was_moved_repairs_itself_without_the_network(tmp_path: Path) -> None:
    clone = tmp_path / "moved"
    clone.mkdir()
    for name in ("tools", "requirements", "src", "pyproject.toml", "README.md", "LICENSE"):
        _copy(ROOT / name, clone / name)
    for name in ("tools", "pip"):
        if (ROOT / ".cache" / name).is_dir():
            _copy(ROOT / ".cache" / name, clone / ".cache" / name)
    (clone / ".cache" / "uv").symlink_to(ROOT / ".cache" / "uv")
    suite = (ROOT / ".cache/nix/bin").readlink().parts[0]
    _copy(ROOT / ".cache/nix" / suite, clone / ".cache/nix" / suite)
    for marker in (ROOT / ".cache/nix").glob("*.expired"):  # why it is another suite than the default
        _copy(marker, clone / ".cache/nix" / marker.name)

    done = _set_up(clone)

    assert done.returncode == 0, done.stderr
    python = clone / ".venv/bin/python"
    where = subprocess.run(
        [python, "-c", "import piste; print(piste.__file__)"], capture_output=True, text=True
    )
    assert where.stdout.strip() == str(clone / "src/piste/__init__.py")
    assert str(clone) in (clone / ".venv/bin/piste").read_text(encoding="utf-8").splitlines()[0]
    assert _build(clone / ".cache/nix/bin", tmp_path) == "built\n"


@pytest.mark.parametrize("suite", ALL_SUITES)
def test_a_portable_nix_builds_in_a_chroot_store(suite: str, tmp_path: Path) -> None:
    folder = ROOT / ".cache/nix" / suite / "bin"
    if not folder.is_dir():
        pytest.skip(f"the mirror's index of Debian {suite} has expired, so its Nix could not be had")
    existed = Path("/nix").exists()
    assert _build(folder, tmp_path) == "built\n"
    assert Path("/nix").exists() == existed


def test_a_nix_on_path_is_used_where_it_is_new_enough_and_can_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        _chosen(tmp_path / "a", monkeypatch, ROOT / ".cache/nix/trixie/bin") == ROOT / ".cache/nix/trixie/bin"
    )
    too_old = ROOT / ".cache/nix/bookworm/bin"
    assert _chosen(tmp_path / "b", monkeypatch, too_old) == tmp_path / "b" / "bin"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "nix").write_text("#!/bin/sh\necho 'nix (Nix) 2.30.0'\n", encoding="utf-8")
    (broken / "nix").chmod(0o755)
    assert _chosen(tmp_path / "c", monkeypatch, broken) == tmp_path / "c" / "bin"


def test_missing_packages_are_named_all_at_once(tmp_path: Path) -> None:
    for command in ("sh", "dirname", "env"):
        (tmp_path / command).symlink_to(str(shutil.which(command)))
    environment = {"PATH": str(tmp_path), "SSL_CERT_FILE": "/somewhere"}
    done = subprocess.run(
        [ROOT / "tools/setup"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "git util-linux\n" in done.stderr
    (line,) = (
        line for line in done.stderr.splitlines() if line.startswith("install it with: apt-get install")
    )
    assert line.endswith(" git util-linux")


def test_a_folder_with_a_space_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    _copy(ROOT / "tools", clone / "tools")
    done = _set_up(clone)
    assert done.returncode == 1
    assert "a space in its name" in done.stderr
    assert sorted(path.name for path in clone.iterdir()) == ["tools"]


def test_an_expired_index_is_said_and_the_stable_suite_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def ensure(suite: str) -> None:
        if suite == "forky":
            raise ExpiredReleaseError("Release file is expired")
        made.append(suite)

    monkeypatch.setattr(portable_nix, "NIX", tmp_path)
    monkeypatch.setattr(portable_nix, "ensure_nix", ensure)
    portable_nix.ensure_default_nix()
    assert made == ["trixie"]
    assert (tmp_path / "bin").readlink() == Path("trixie/bin")
    assert "index of Debian forky has expired" in capsys.readouterr().err
    portable_nix.ensure_default_nix()
    assert capsys.readouterr().err == ""


def _chosen(nix: Path, monkeypatch: pytest.MonkeyPatch, on_path: Path) -> Path:
    nix.mkdir()
    monkeypatch.setattr(system_nix, "NIX", nix)
    monkeypatch.setenv("PATH", f"{on_path}:/usr/bin:/bin")
    system_nix.choose_nix()
    return Path((nix / "chosen").read_text(encoding="utf-8").strip())


def _set_up(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **NO_NETWORK}
    return subprocess.run(
        [clone / "tools/setup", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def _build(commands: Path, scratch: Path) -> str:
    root = scratch / "root"
    environment = {
        "PATH": f"{commands}:/usr/bin:/bin",
        "HOME": str(scratch),
        "NIX_REMOTE": f"local?root={root}",
        "NIX_STATE_DIR": f"{root}/nix/var/nix",
    }
    command = ["nix-build", "--no-out-link", "-E", BUILD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(f"{root}{done.stdout.strip()}").read_text(encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", source, target], check=True)
