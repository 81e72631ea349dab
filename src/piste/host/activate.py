"""Stage 4, fetched → testing: bring a configuration to life the way its own tools do, and say how that ended.

The exit status decides, taken from the unit or the process that ran; what `/run/current-system` points to
says nothing. What it prints goes to a file that a person can read later, and not to a terminal that may go
away.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from piste.host.place import LINKS, Host, user_name
from piste.host.records import Action, Kind, Watcher
from piste.host.verify import description, is_active, runs_systemd
from piste.lib import process
from piste.lib.errors import BlockedError, PisteError, UsageError
from piste.lib.files import write_atomically
from piste.nixcmd.store import STORE_DIR

# The name that nixos-rebuild uses too: systemd runs only one at a time, so the two exclude each other.
UNIT: Final = "nixos-rebuild-switch-to-configuration"
_UNIT_ENVIRONMENT: Final = ("LOCALE_ARCHIVE", "NIXOS_INSTALL_BOOTLOADER", "NIXOS_NO_CHECK")
_LOOK: Final = 0.1  # seconds between two looks at what the activation says
_PATH: Final = "/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Nobody types at an activation, and what it says is read later.
_QUIET: Final = {"TERM": "dumb", "LANG": "C.UTF-8"}

ACTIONS: Final = {
    Kind.NIXOS: frozenset(Action),
    # Neither has anything that boots, and nix-darwin cannot tell what it would do.
    Kind.HOME_MANAGER: frozenset({Action.SWITCH, Action.TEST, Action.DRY_ACTIVATE}),
    Kind.NIX_DARWIN: frozenset({Action.SWITCH, Action.TEST}),
}


@dataclass(frozen=True)
class Configuration:
    """Something in the store that can be activated on a host."""

    host: Host
    kind: Kind
    store_path: str

    def has(self, name: str) -> bool:
        return self.find(name) is not None

    def find(self, name: str) -> Path | None:
        """The file of this name in it. Links are followed as the host would follow them."""
        real = self.host.store.real_path(self._end(name))
        return real if real.exists() else None

    def resolve(self, name: str) -> str | None:
        """The store path that holds the file of this name, which may be another than the configuration's."""
        text = str(self._end(name))
        if not self.has(name) or not text.startswith(STORE_DIR + "/"):
            return None
        return STORE_DIR + "/" + text.removeprefix(STORE_DIR + "/").split("/", 1)[0]

    def _end(self, name: str) -> Path:
        """Where the links at this name lead to in the end, as the host sees it."""
        place = Path(self.store_path) / name
        for _ in range(LINKS):
            real = self.host.store.real_path(place)
            if not real.is_symlink():
                return place
            target = real.readlink()
            place = target if target.is_absolute() else place.parent / target
        raise PisteError("link-loop", f"The links at {self.store_path}/{name} lead in a circle.")

    def text(self, name: str) -> str | None:
        """What a small file in it says."""
        file = self.find(name)
        return file.read_text(encoding="utf-8", errors="replace").strip() if file and file.is_file() else None


def check_action(kind: Kind, action: Action) -> None:
    """UsageError where a kind of configuration does not know an action."""
    if action not in ACTIONS[kind]:
        known = ", ".join(sorted(ACTIONS[kind]))
        raise UsageError(
            "unknown-action", f"A configuration of {kind} can't {action}.", hint=f"It can {known}."
        )


def check_configuration(configuration: Configuration, system: str) -> None:
    """Refuse what is not a configuration of its kind, or not for this type of machine."""
    markers = {
        Kind.NIXOS: ("nixos-version", "bin/switch-to-configuration"),
        Kind.HOME_MANAGER: ("activate", "home-files"),
        Kind.NIX_DARWIN: ("activate", "darwin-version"),
    }
    absent = [name for name in markers[configuration.kind] if not configuration.has(name)]
    if absent:
        raise PisteError(
            "not-a-configuration",
            f"{configuration.store_path} is no configuration of {configuration.kind}: it has no"
            f" {' and no '.join(absent)}.",
            hint="Check the attribute path after the #; a NixOS image without `system.switch.enable` can't"
            " be switched to.",
        )
    built_for = configuration.text("system")
    if built_for and built_for not in (system, "i686-linux" if system == "x86_64-linux" else system):
        raise UsageError(
            "wrong-system", f"{configuration.store_path} is for {built_for}, and this machine is {system}."
        )


def check_inhibitors(configuration: Configuration, running: str | None) -> None:
    """BlockedError where NixOS itself would refuse to switch without a reboot."""
    if configuration.kind is not Kind.NIXOS or running is None or os.environ.get("NIXOS_NO_CHECK") == "1":
        return
    before = _inhibitors(Configuration(configuration.host, Kind.NIXOS, running))
    after = _inhibitors(configuration)
    differing = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    if differing:
        raise BlockedError(
            "switch-inhibited",
            f"This release can't be switched to while the running one runs: {', '.join(differing)} differs.",
            hint="Use the action `boot`, then reboot.",
        )


def activate(configuration: Configuration, action: Action, log: Path, watcher: Watcher) -> int:
    """Run the configuration's own activation to its end; the exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    note = _note(log.parent.parent)
    with _followed(log, watcher):
        if configuration.kind is Kind.NIXOS and _in_unit(configuration.host):
            return _run_in_unit(configuration, action, log)
        environment = _environment(configuration, action)
        argv = [*_entrance(configuration.host), *command(configuration, action)]
        try:
            return process.run_apart(argv, log, env=environment, started=lambda pid: _remember(note, pid))
        finally:
            note.unlink(missing_ok=True)


def command(configuration: Configuration, action: Action) -> list[str]:
    """The program of a configuration that performs an action."""
    path = configuration.store_path
    if configuration.kind is Kind.NIXOS:
        return [f"{path}/bin/switch-to-configuration", action.value]
    if configuration.kind is Kind.HOME_MANAGER:
        # As a driver of version 1 we own the profile; without, `activate` would set it before we verified.
        return [f"{path}/activate", "--driver-version", "1"]
    return [f"{path}/activate"]


def other_switch(host: Host, kind: Kind) -> str | None:
    """What runs at this moment in the unit that we would need, whoever began it; None if it is free."""
    if kind is not Kind.NIXOS or not _in_unit(host) or not is_active(UNIT):
        return None
    return description(UNIT)


def still_running(host: Host, kind: Kind, state: Path) -> bool:
    """Whether an activation runs at this moment, though the deployment that began it may be gone."""
    if kind is Kind.NIXOS and _in_unit(host):
        return is_active(UNIT)
    try:
        pid, born = _note(state).read_text().split()
    except (OSError, ValueError):
        return False
    return process.born(int(pid)) == born


def _note(state: Path) -> Path:
    """Where it is written which process activates, outside of systemd."""
    return state / "activating"


def _remember(note: Path, pid: int) -> None:
    write_atomically(note, f"{pid} {process.born(pid)}\n".encode())


def _in_unit(host: Host) -> bool:
    return host.is_whole_machine and runs_systemd()


def _run_in_unit(configuration: Configuration, action: Action, log: Path) -> int:
    """In a transient unit, which outlives us, our terminal and a restart of the service that we are in."""
    passed = [f"--setenv={name}" for name in _UNIT_ENVIRONMENT if name in os.environ]
    argv = [
        "systemd-run",
        *passed,
        "--collect",
        "--no-ask-password",
        "--quiet",
        "--wait",
        "--service-type=exec",
        f"--unit={UNIT}",
        f"--property=StandardOutput=append:{log}",
        f"--property=StandardError=append:{log}",
        *command(configuration, action),
    ]
    status = process.run_apart(argv, log, env=process.environment())
    # What waited may have been killed, or somebody was faster by a moment: nothing is done beside a switch.
    while status != 0 and is_active(UNIT):
        time.sleep(_LOOK)
    return status


def _environment(configuration: Configuration, action: Action) -> Mapping[str, str]:
    """What an activation is given when it runs directly."""
    host = configuration.host
    if configuration.kind is Kind.HOME_MANAGER:
        dry = {"DRY_RUN": "1"} if action is Action.DRY_ACTIVATE else {}
        own = {"HOME": str(host.home()), "USER": user_name()} | dry
        if host.is_whole_machine:
            return process.environment(host.store.environment | own)
        return {"PATH": _PATH, **_QUIET, **own}
    kept = {name: os.environ[name] for name in _UNIT_ENVIRONMENT if name in os.environ}
    path = _PATH if not host.is_whole_machine else os.environ.get("PATH", _PATH)
    return {"PATH": path, "HOME": "/root", **_QUIET, **kept}


def _entrance(host: Host) -> list[str]:
    """What stands before a command to run it under the host's own root."""
    if host.is_whole_machine:
        return []
    chroot = process.find("chroot", os.pathsep.join((os.environ.get("PATH", ""), _PATH)))
    chroot_command = [str(chroot or "chroot"), str(host.root)]
    if os.geteuid() == 0:
        return chroot_command
    # An ordinary user becomes root of a namespace of their own.
    return ["unshare", "--map-root-user", *chroot_command]


@contextmanager
def _followed(log: Path, watcher: Watcher) -> Iterator[None]:
    """While this lasts, each new line of the log is told."""
    log.touch()
    done = threading.Event()
    reader = threading.Thread(target=_follow, args=(log, log.stat().st_size, done, watcher), daemon=True)
    reader.start()
    try:
        yield
    finally:
        done.set()
        reader.join()


def _follow(log: Path, start: int, done: threading.Event, watcher: Watcher) -> None:
    with log.open("rb") as file:
        file.seek(start)
        held = b""
        while True:
            last = done.wait(_LOOK)
            *lines, held = (held + file.read()).split(b"\n")
            for line in lines + ([held] if last and held else []):
                watcher.detail(line.decode(errors="replace"))
            if last:
                return


def _inhibitors(configuration: Configuration) -> dict[str, str]:
    try:
        return msgspec.json.decode(configuration.text("switch-inhibitors") or "{}", type=dict[str, str])
    except msgspec.DecodeError:
        return {}  # a form that we do not know; switch-to-configuration checks it again itself
