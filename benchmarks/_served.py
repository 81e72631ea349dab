"""A release of a closure in a hub, and the same closure as a directory cache of Nix's, signed by the same
key."""

from pathlib import Path
from typing import Final

from benchmarks._closure import Closure, plant, write_flake
from benchmarks._place import Place
from tests.running.command import check
from tests.running.tenants import Tenant

_LIMIT: Final = 600.0  # seconds of one command


def publish_by_piste(place: Place, tenant: Tenant, closure: Closure, version: str = "1.0.0") -> None:
    """By the command, from a store that has the closure."""
    with place.person(tenant) as publisher:
        plant(publisher, closure)
        flake = write_flake(publisher, closure)
        publisher.succeed("publish", str(flake), "--name", tenant.name, "--version", version)


def save_as_files(place: Place, tenant: Tenant, closure: Closure) -> Path:
    """By Nix, and from the hub, so that its signatures are there."""
    files = place.new("files")
    with place.person(tenant) as copier:
        for argv in (
            ["nix", "copy", "--from", tenant.cache_url, "--to", copier.store, closure.top],
            ["nix", "copy", "--from", copier.store, "--to", f"file://{files}?compression=zstd", closure.top],
        ):
            check(copier.run(*argv, timeout=_LIMIT), argv)
    return files
