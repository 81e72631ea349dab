"""How a command of Nix is called: its features, its settings, its version.

Settings are added to the caller's NIX_CONFIG and never replace it. What to run is not decided here.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from piste.lib import process
from piste.lib.errors import PisteError
from piste.nixcmd.store import Store

FEATURES: Final = ("--extra-experimental-features", "nix-command flakes")
# An answer that says nothing within this time is not coming: `nix --version` reads no store.
_VERSION_TIMEOUT: Final = 30.0


def run(
    store: Store,
    argv: Sequence[str],
    *,
    settings: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
    on_stderr: Callable[[str], None] | None = None,
) -> process.Completed:
    """Run one command of Nix on `store`; `nix-missing` says how to get it."""
    extra = store.environment | configuration(settings or {})
    try:
        return process.run(argv, extra=extra, cwd=cwd, timeout=timeout, check=check, on_stderr=on_stderr)
    except PisteError as error:
        if error.ref == "command-missing":
            raise _nix_missing(argv[0]) from error
        raise


def spawn(store: Store, argv: Sequence[str], settings: Mapping[str, str] | None = None) -> process.Child:
    """Start one command of Nix with pipes."""
    try:
        return process.spawn(argv, extra=store.environment | configuration(settings or {}))
    except PisteError as error:
        if error.ref == "command-missing":
            raise _nix_missing(argv[0]) from error
        raise


def configuration(settings: Mapping[str, str]) -> dict[str, str]:
    """NIX_CONFIG with `settings` after the caller's own lines."""
    if not settings:
        return {}
    lines = [os.environ.get("NIX_CONFIG", "").rstrip("\n")]
    for name, value in settings.items():
        if "\n" in value or "\n" in name:
            raise ValueError(f"a setting of Nix can't hold a line end: {name}")
        lines.append(f"{name} = {value}")
    return {"NIX_CONFIG": "\n".join(line for line in lines if line) + "\n"}


@cache
def version() -> tuple[int, int]:
    """Major and minor of the Nix on PATH."""
    try:
        text = process.run(["nix", "--version"], timeout=_VERSION_TIMEOUT).text
    except PisteError as error:
        if error.ref == "command-missing":
            raise _nix_missing("nix") from error
        raise
    found = re.search(r"(\d+)\.(\d+)", text.rpartition(")")[2] or text)
    if not found:
        raise PisteError("nix-version", f"Nix says a version that can't be read: {text!r}.")
    return int(found[1]), int(found[2])


def _nix_missing(command: str) -> PisteError:
    return PisteError(
        "nix-missing",
        f"`{command}` is not on PATH.",
        hint="Install Nix, or put the folder that holds it on PATH.",
    )
