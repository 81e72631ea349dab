"""What a release would change on this host, told before anything but its manifest was fetched.

Compares the closure that runs with the one that the manifest lists, by the names that store paths carry.
Names are a convention, so this informs people and decides nothing.
"""

import re
from collections.abc import Container, Iterable, Mapping
from typing import Final

import msgspec

from piste.host.activate import Configuration
from piste.host.place import Host
from piste.host.records import Authorised, Kind, Plan
from piste.nix.store_path import StorePath
from piste.nixcmd.daemon import Daemon

_UNIT: Final = re.compile(r"(X-Reload-Triggers-|X-Restart-Triggers-)?unit-(?P<unit>.+\.[a-z]+)")
# A version begins at the first dash that no letter follows; so Nix itself divides names.
_VERSION: Final = re.compile(r"(?P<name>.*?)-(?P<version>[^a-zA-Z].*)")
# What a machine keeps from its start until the next.
_BOOTED: Final = ("kernel", "initrd", "kernel-modules")

Sizes = Mapping[StorePath, int]


class PackageChange(msgspec.Struct, frozen=True):
    """A package by name: its versions on either side, and how many bytes more it takes."""

    name: str
    before: list[str]
    after: list[str]
    bytes: int


class Changes(msgspec.Struct, frozen=True):
    """What `piste diff` answers."""

    reference: str
    version: str
    store_path: str
    current: str | None
    packages_added: list[PackageChange]
    packages_removed: list[PackageChange]
    packages_changed: list[PackageChange]  # another version
    packages_rebuilt: list[PackageChange]  # the same version, other content
    units_added: list[str]
    units_removed: list[str]
    units_changed: list[str]
    kernel_before: str | None
    kernel_after: str | None
    reboot_needed: bool
    bytes_before: int
    bytes_after: int
    paths_to_fetch: int
    bytes_to_fetch: int


def compare(host: Host, kind: Kind, authorised: Authorised, plan: Plan, daemon: Daemon) -> Changes:
    """The differences between what runs and what a plan would bring."""
    current = host.running(kind) or host.store_path_behind(host.profile(kind))
    before = _closure(daemon, current)
    after = {StorePath.from_base_name(entry.path): entry.nar_size for entry in plan.manifest.paths}
    packages = list(_packages(before, after))
    units_before, units_after = _units(before), _units(after)
    both = units_before.keys() & units_after.keys()
    return Changes(
        reference=authorised.resolution.reference,
        version=authorised.resolution.version,
        store_path=authorised.store_path,
        current=current,
        packages_added=[one for one in packages if not one.before],
        packages_removed=[one for one in packages if not one.after],
        packages_changed=[one for one in packages if one.before and one.after and one.before != one.after],
        packages_rebuilt=[one for one in packages if one.before == one.after],
        units_added=sorted(units_after.keys() - units_before.keys()),
        units_removed=sorted(units_before.keys() - units_after.keys()),
        units_changed=sorted(unit for unit in both if units_before[unit] != units_after[unit]),
        kernel_before=_kernel(before),
        kernel_after=_kernel(after),
        reboot_needed=kind is Kind.NIXOS and reboot_needed(host, current, after),
        bytes_before=sum(before.values()),
        bytes_after=sum(after.values()),
        paths_to_fetch=len(plan.missing),
        bytes_to_fetch=plan.bytes_to_fetch,
    )


def split_name(name: str) -> tuple[str, str]:
    """A store path's name as package and version, which may be empty."""
    found = _VERSION.fullmatch(name)
    return (found["name"], found["version"]) if found else (name, "")


def _closure(daemon: Daemon, root: str | None) -> Sizes:
    if root is None:
        return {}
    return {path: info.nar_size for path, info in daemon.closure([StorePath.parse(root)]).items()}


def _packages(before: Sizes, after: Sizes) -> Iterable[PackageChange]:
    """Every package of which not the very same paths are on both sides."""
    old, new = _by_package(before), _by_package(after)
    for name in sorted(old.keys() | new.keys()):
        was, becomes = old.get(name, set()), new.get(name, set())
        if was == becomes:
            continue
        growth = sum(after[path] for path in becomes) - sum(before[path] for path in was)
        yield PackageChange(name, _versions(was), _versions(becomes), growth)


def _by_package(sizes: Sizes) -> dict[str, set[StorePath]]:
    packages: dict[str, set[StorePath]] = {}
    for path in sizes:
        if not _UNIT.fullmatch(path.name):
            packages.setdefault(split_name(path.name)[0], set()).add(path)
    return packages


def _versions(paths: set[StorePath]) -> list[str]:
    return sorted({split_name(path.name)[1] for path in paths})


def _units(sizes: Sizes) -> dict[str, set[StorePath]]:
    units: dict[str, set[StorePath]] = {}
    for path in sizes:
        if found := _UNIT.fullmatch(path.name):
            units.setdefault(found["unit"], set()).add(path)
    return units


def _kernel(sizes: Sizes) -> str | None:
    """The version of the kernel in a closure, None where there is none or more than one."""
    versions = {
        version for path in sizes for name, version in [split_name(path.name)] if name == "linux" and version
    }
    plain = {version for version in versions if not version.endswith("-modules")}
    return next(iter(plain)) if len(plain) == 1 else None


def reboot_needed(host: Host, current: str | None, after: Container[StorePath]) -> bool:
    """Whether a part of what the machine was started with is not in the release."""
    booted = host.booted() or current
    if booted is None:
        return False
    configuration = Configuration(host, Kind.NIXOS, booted)
    parts = (configuration.resolve(name) for name in _BOOTED)
    return any(part is not None and StorePath.parse(part) not in after for part in parts)
