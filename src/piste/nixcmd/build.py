"""`nix-store --realise`, and what keeps its results: roots and profiles."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from piste.lib.process import Completed
from piste.nixcmd.command import run
from piste.nixcmd.store import Store


def realise(
    store: Store,
    derivations: Sequence[str],
    *,
    on_line: Callable[[str], None] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Completed:
    """Build derivations (`X.drv` or `X.drv!OUTPUT`) or fetch paths, going on after failures.

    The status of the result tells whether all went well; which did, the store knows.
    """
    argv = ["nix-store", "--realise", "--keep-going", "--no-gc-warning", *derivations]
    return run(store, argv, check=False, on_stderr=on_line, settings=settings)


def delete_paths(store: Store, paths: Sequence[str]) -> Completed:
    """Delete paths that nothing needs; whether all could be, the status tells."""
    return run(store, ["nix-store", "--delete", *paths], check=False)


def set_profile(store: Store, profile: Path, path: str) -> None:
    """Make `path` the newest generation of a profile."""
    run(store, ["nix-env", "--profile", str(profile), "--set", path])


def switch_profile(store: Store, profile: Path, generation: int) -> None:
    """Make a generation of a profile the present one."""
    run(store, ["nix-env", "--profile", str(profile), "--switch-generation", str(generation)])
