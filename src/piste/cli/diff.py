"""`piste diff`: what applying a reference would change."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from piste.cli import show
from piste.cli.options import Hub, Json, Root, StoreUrl, TokenFile, connect
from piste.host.diff import Changes, PackageChange, compare
from piste.host.fetch import Fetching
from piste.host.journal import Journal
from piste.host.place import Host
from piste.host.records import Kind, Watcher
from piste.host.resolve import read_reference
from piste.host.stopwatch import Stopwatch


def diff(
    reference: Annotated[
        str,
        Parameter(
            name="REF", help="ORG/PROJECT/REQUIREMENT[#ATTRIBUTE]; the attribute of this host by default."
        ),
    ],
    /,
    *,
    kind: Annotated[Kind, Parameter(name="--kind", help="What it is compared with.")] = Kind.NIXOS,
    hub: Hub = None,
    token_file: TokenFile = None,
    store: StoreUrl = "auto",
    root: Root = Path("/"),
    as_json: Json = False,
) -> None:
    """Show what applying a reference would change: packages, units, the kernel, sizes.

    Only the list of the release's paths is fetched, and nothing is changed.

    For example:

        piste diff acme/web/1#nixosConfigurations.web
    """
    host = Host.at(store, root)
    with connect(hub, token_file) as client, Fetching(client, host, Watcher(), Stopwatch()) as fetching:
        named = read_reference(reference, client.url, kind)
        authorised = fetching.authorise(named, kind, Journal(host.state_folder(kind)).deployments())
        plan = fetching.plan(authorised)
        changes = compare(host, kind, authorised, plan, fetching.daemon())
    if as_json:
        show.data(changes)
        return
    for line in _lines(changes):
        show.line(line)


def _lines(changes: Changes) -> Iterator[str]:
    yield f"{changes.current or 'nothing'} → {changes.store_path} ({changes.version})"
    groups = (
        ("added", changes.packages_added),
        ("removed", changes.packages_removed),
        ("changed", changes.packages_changed),
        ("rebuilt", changes.packages_rebuilt),
    )
    for word, packages in groups:
        for package in packages:
            yield f"  {word:8} {_package(package)}"
    units = (
        ("added", changes.units_added),
        ("removed", changes.units_removed),
        ("changed", changes.units_changed),
    )
    for word, names in units:
        for name in names:
            yield f"  {word:8} unit {name}"
    if changes.kernel_before != changes.kernel_after:
        yield f"  kernel   {changes.kernel_before or 'none'} → {changes.kernel_after or 'none'}"
    yield f"Reboot needed: {'yes' if changes.reboot_needed else 'no'}"
    grown = changes.bytes_after - changes.bytes_before
    yield f"Closure: {show.size(changes.bytes_after)} ({_signed(grown)})"
    yield f"To fetch: {changes.paths_to_fetch} paths, {show.size(changes.bytes_to_fetch)}"


def _package(package: PackageChange) -> str:
    before, after = (
        ", ".join(version for version in side if version) for side in (package.before, package.after)
    )
    versions = before if before == after else " → ".join(side for side in (before, after) if side)
    return f"{package.name} {versions}".rstrip() + f" ({_signed(package.bytes)})"


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{show.size(abs(count))}"
