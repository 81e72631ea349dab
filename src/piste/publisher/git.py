"""What git says of a flake's folder. Only asks; never changes a repository."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from piste.lib import process
from piste.lib.errors import PisteError
from piste.lib.process import CommandError

# A folder of the tree can have the form of a bare repository, whose configuration then names programs to run.
_GIT: Final = ("git", "-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false")


@dataclass(frozen=True)
class Checkout:
    """A working tree at its present commit; `subfolder` is where the flake lies in it ("" for the top)."""

    root: Path
    subfolder: str
    revision: str
    commit_count: int
    commit_time: int  # seconds since the epoch
    dirty: bool
    shallow: bool
    repository: str | None


def read_checkout(folder: Path) -> Checkout | None:
    """The checkout that `folder` is in; None where it is in none."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    root = Path(_git(folder, "rev-parse", "--show-toplevel"))
    if not _git(folder, "ls-files", "--", "flake.nix"):
        raise PisteError(
            "flake-untracked",
            f"{folder / 'flake.nix'} is not in git, so Nix does not see it.",
            hint="Run `git add flake.nix`, and commit it.",
        )
    try:
        revision, time = _git(folder, "log", "-1", "--format=%H %ct").split()
    except CommandError as error:
        raise PisteError(
            "no-commit", f"The repository {root} has no commit yet.", hint="Run `git commit`."
        ) from error
    return Checkout(
        root=root,
        subfolder=_git(folder, "rev-parse", "--show-prefix").rstrip("/"),
        revision=revision,
        commit_count=int(_git(folder, "rev-list", "--count", "HEAD")),
        commit_time=int(time),
        # What git does not know of is not part of a flake, so untracked files do not make it dirty.
        dirty=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
        shallow=_git(folder, "rev-parse", "--is-shallow-repository") == "true",
        repository=_public_url(_git(folder, "config", "--get", "remote.origin.url", check=False)),
    )


def list_files(folder: Path) -> list[str]:
    """The tracked files below `folder`, relative to it, sorted."""
    listed = process.run([*_GIT, "ls-files", "-z", "--", "."], cwd=folder).stdout
    return sorted(name.decode(errors="surrogateescape") for name in listed.split(b"\0") if name)


def _git(folder: Path, *arguments: str, check: bool = True) -> str:
    return process.run([*_GIT, *arguments], cwd=folder, check=check).text


def _public_url(remote: str) -> str | None:
    """The address of a remote as people can open it, without any credential that may be in it."""
    if found := re.fullmatch(r"(?:ssh://)?[\w.-]+@([\w.-]+)[:/](?!\d+/)(.+?)(?:\.git)?/?", remote):
        return f"https://{found[1]}/{found[2]}"
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None  # a folder, or a form that only this machine understands
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    return urlunsplit((parts.scheme, host, parts.path.removesuffix(".git"), "", ""))
