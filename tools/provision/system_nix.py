"""Which Nix the demo and the tests use: the one on PATH where it is usable, else the portable one.

Usable means 2.18 or newer, and able to build in a chroot store: tried with a derivation, not guessed.
The answer stands in `.cache/nix/chosen`, one line with the folder of the commands.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.provision.place import CACHE, fingerprint, say, stamped

NIX = CACHE / "nix"
OLDEST = (2, 18)


def choose_nix() -> None:
    """Writes down the folder of the Nix to use; a system's Nix is tried again when it is another one."""
    found = _system_nix()
    chosen, stamp = NIX / "chosen", NIX / "chosen.stamp"
    value = fingerprint(str(NIX), str(found))
    if chosen.is_file() and stamped(stamp, value):
        return
    folder = NIX / "bin"
    if found is not None and _is_usable(found):
        folder = found.parent
        say(f"  demo and tests use the Nix on PATH: {found}")
    chosen.write_text(f"{folder}\n", encoding="utf-8")
    stamp.write_text(value, encoding="utf-8")


def _system_nix() -> Path | None:
    """The `nix` on PATH, by its real place (a store path with a version on NixOS), unless it is ours."""
    path = shutil.which("nix")
    if path is None or Path(path).resolve().is_relative_to(NIX):
        return None
    return Path(path).resolve()


def _is_usable(nix: Path) -> bool:
    try:
        return _is_new_enough(nix) and _can_build(nix)
    except (OSError, subprocess.SubprocessError):
        return False


def _is_new_enough(nix: Path) -> bool:
    said = subprocess.run([nix, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    numbers = re.search(r"(\d+)\.(\d+)", said)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= OLDEST


def _can_build(nix: Path) -> bool:
    expression = (
        'derivation { name = "probe"; system = builtins.currentSystem; builder = "/bin/sh"; '
        'args = [ "-c" "echo yes > $out" ]; }'
    )
    with tempfile.TemporaryDirectory(prefix="piste-probe-") as scratch:
        store = {"NIX_REMOTE": f"local?root={scratch}/root", "NIX_STATE_DIR": f"{scratch}/root/nix/var/nix"}
        environment = dict(os.environ, HOME=scratch, **store)
        command = [str(nix.with_name("nix-build")), "--no-out-link", "--substituters", "", "-E", expression]
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
        # What Nix built is read-only, and the temporary folder has to go.
        subprocess.run(["chmod", "-R", "u+w", scratch], check=False)
        return done.returncode == 0
