"""Stage 6, confirmed → committed: what was tested becomes what the profile points to, and what boots.

Only here is either touched, so a crash at any moment before leaves the machine booting what it booted before.
"""

from pathlib import Path

from piste.host.activate import Configuration, activate
from piste.host.records import Action, Kind, Watcher
from piste.lib.errors import PisteError
from piste.nixcmd.build import set_profile, switch_profile


def commit(
    configuration: Configuration, log: Path, watcher: Watcher, generation: int | None = None
) -> int | None:
    """Point the profile to the configuration and install its boot entry; the generation's number.

    `generation` is one that exists already and is to be pointed to again.
    """
    host, kind = configuration.host, configuration.kind
    profile = host.profile(kind)
    profile.parent.mkdir(parents=True, exist_ok=True)
    if generation is None:
        set_profile(host.store, profile, configuration.store_path)
    else:
        switch_profile(host.store, profile, generation)
    if kind is Kind.NIXOS:
        status = activate(configuration, Action.BOOT, log, watcher)
        if status != 0:
            raise PisteError(
                "boot-entry-failed",
                f"The boot entry could not be installed (status {status}).",
                hint=f"What was said is in {log}. A full boot partition is the usual reason.",
            )
    return host.generation(kind)


def restore(configuration: Configuration, log: Path, watcher: Watcher, generation: int | None) -> None:
    """Undo a commit that failed half-way: the profile and the boot entry as they were."""
    host, kind = configuration.host, configuration.kind
    if generation is None or host.generation(kind) == generation:
        return
    before = host.generations(kind).get(generation)
    if before is not None:
        commit(Configuration(host, kind, before), log, watcher, generation)
