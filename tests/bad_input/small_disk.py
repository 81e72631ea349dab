"""Small disks: tmpfs in a mount namespace of its own, made by anybody where the kernel lets them."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

NAMESPACE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]


def skip_without_namespaces() -> None:
    """Skips the test where no small disk can be made."""
    made = subprocess.run(
        [*NAMESPACE, "sh", "-c", "mount -t tmpfs none /tmp"], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("no mount namespaces here, so no small disk can be made")


def within(folder: Path, size: str, *, keeping: bool = False) -> tuple[str, ...]:
    """What to put before a command so that `folder` is on a disk of `size`, perhaps with what it holds now.

    `size` may go on with further options of tmpfs, such as `nr_inodes=40`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep = 'cp -a "$0" "$0.kept" && ' if keeping else ""
    back = ' && cp -a "$0.kept/." "$0"' if keeping else ""
    script = f'{keep}mount -t tmpfs -o size={size} none "$0"{back} && exec "$@"'
    return (*NAMESPACE, "sh", "-c", script, str(folder))


def resize(pid: int, folder: Path, size: str) -> None:
    """Make the disk that a process sees at `folder` another size."""
    enter: Sequence[str] = ["nsenter", "-t", str(pid), "-m"]
    if os.geteuid() != 0:
        enter = [*enter, "-U", "--preserve-credentials"]
    subprocess.run([*enter, *remount(size), str(folder)], check=True)


def remount(size: str) -> list[str]:
    """What to put before a folder in the same namespace to make its disk another size."""
    # All of it: what `mount` would add by itself is not valid in a namespace of users.
    return ["mount", "-t", "tmpfs", "-o", f"remount,size={size}", "none"]
