"""Stage 3, planned → fetched: bring what is missing into the store, through Nix, and root it.

The import goes through Nix's daemon, which checks each path's signature before it reads the NAR, and the
NAR's hash as it reads. We check hash and size too, so that the message can say which NAR was bad. What was
imported before something failed stays, complete and unrooted; the next attempt goes on from there.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin

from piste.client.api import HubClient
from piste.host.bundles import Parts, address, group
from piste.host.place import Host
from piste.host.plan import estimate, make_plan
from piste.host.records import Authorised, Fetched, Moved, Plan, Watcher
from piste.host.resolve import granted_keys, renewed
from piste.host.stopwatch import Stopwatch
from piste.host.unpack import unpack
from piste.lib.errors import PisteError, UsageError
from piste.nix.hashes import Hash
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import STORE_DIR, StorePath
from piste.nixcmd.build import add_root, delete_paths
from piste.nixcmd.daemon import Daemon, Item, disk_is_full
from piste.wire.manifest import Manifest
from piste.wire.resolution import NarSource

if TYPE_CHECKING:
    from piste.host.supply import Wanted


class Fetching:
    """One fetch, step by step. Use it in a `with` block."""

    def __init__(self, hub: HubClient, host: Host, watcher: Watcher, seconds: Stopwatch) -> None:
        self._hub = hub
        self._host = host
        self._watcher = watcher
        self._seconds = seconds
        self._pool = ThreadPoolExecutor(1)
        self._starting: Future[Daemon] | None = None
        self._paths = self._paths_total = self._bytes = self._bytes_total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._starting is not None and self._starting.exception() is None:
            self._starting.result().close()
        self._pool.shutdown()

    def check(self, link: Path) -> None:
        """A root is a link; anything else at its place would have to be deleted for it."""
        if link.exists() and not link.is_symlink():
            raise UsageError(
                "link-exists",
                f"{link} exists and is no link.",
                hint="Name a place where nothing is, or an older link.",
            )

    def start_daemon(self, organization: str) -> None:
        """Start Nix while the hub is asked. It believes the keys that we believe, for this process only."""
        keys = " ".join(map(str, granted_keys(organization)))
        # Both are for a store that is ours; a daemon behind a socket believes what its own nix.conf says.
        settings = {"require-sigs": "true"} | ({"extra-trusted-public-keys": keys} if keys else {})
        self._starting = self._pool.submit(Daemon, self._host.store, settings)

    def plan(self, authorised: Authorised) -> Plan:
        """What there is to do."""
        with self._seconds.step("plan"):
            if not self._host.store.real_path(authorised.store_path).exists():
                # It will be needed, and takes a third of a second to load: while the hub is asked.
                self._pool.submit(import_module, "piste.host.supply")
            return make_plan(authorised, self.daemon())

    def bring(self, authorised: Authorised, plan: Plan, link: Path) -> Fetched:
        """Do it, and make `link` the closure's root against garbage collection."""
        self.check(link)
        received = 0
        with self._seconds.step("fetch"):
            if plan.missing:
                received = self._import(authorised, plan)
        with self._seconds.step("root"):
            root = StorePath.parse(authorised.store_path)
            if root not in self.daemon().query_valid_paths([root]):
                raise PisteError("path-not-valid", f"{root} was imported, and is not there.")
            link.parent.mkdir(parents=True, exist_ok=True)
            add_root(self._host.store, authorised.store_path, link.absolute())
        return Fetched(authorised.store_path, len(plan.missing), received, plan.bytes_full)

    def daemon(self) -> Daemon:
        """The connection to the store, which keeps what is there for as long as this lasts."""
        if self._starting is None:
            raise ValueError("the daemon was not started")
        return self._starting.result()

    def _import(self, authorised: Authorised, plan: Plan) -> int:
        # Not above: a host that lacks nothing need not wait for it.
        from piste.host.supply import Supply

        self._check_space(plan)
        count = self._paths_total = len(plan.missing)
        self._bytes_total = plan.bytes_to_fetch
        self._watcher.step(f"Fetching {count} path{'s' if count != 1 else ''}")
        groups = group(plan.sources, plan.missing)
        wanted = [_wanted(authorised, plan, places) for places in groups]
        with Supply(
            wanted, authorised.resolution.token, lambda: self._renew(authorised), self._count
        ) as supply:
            try:
                self.daemon().add_multiple(count, self._items(plan, groups, supply.take))
            except PisteError as error:
                self._discard_halves(plan)
                raise _explained(error) from error
            except BaseException:
                self._discard_halves(plan)
                raise
        return self._bytes

    def _items(
        self, plan: Plan, groups: list[list[int]], take: Callable[[int], Iterator[bytes]]
    ) -> Iterator[Item]:
        for order, places in enumerate(groups):
            parts = Parts(take(order))
            for place in places:
                source = plan.sources[place]
                info = path_info(plan.manifest, source, place)
                last = place == places[-1]
                pieces = parts.remainder() if last else parts.part(source.file_size or 0)
                yield info, unpack(pieces, source.compression, info)
                self._paths += 1
                self._tell()

    def _check_space(self, plan: Plan) -> None:
        """Refuse what can't fit before it is downloaded: Nix would read all of it before it says so.

        Unpacked it is larger, but a file system may compress what it keeps; this much it takes at least.
        """
        folder = self._host.store.real_path(STORE_DIR)
        place = next(one for one in (folder, *folder.parents) if one.exists())
        usage = os.statvfs(place)
        free = usage.f_bavail * usage.f_frsize
        if plan.bytes_to_fetch > free:
            raise PisteError(
                "disk-full",
                f"{plan.bytes_to_fetch} bytes have to be fetched, and {place} has room for {free}.",
                hint="Make room, for example with `nix-collect-garbage -d`, and try again.",
            )

    def _discard_halves(self, plan: Plan) -> None:
        """Nix leaves what it was writing until its next garbage collection, which is long on a full disk."""
        self.daemon().close()
        store = self._host.store
        paths = [StorePath.from_base_name(plan.manifest.paths[place].path) for place in plan.missing]
        written = [path for path in paths if os.path.lexists(store.real_path(str(path)))]
        with contextlib.suppress(PisteError):
            with Daemon(store) as daemon:
                halves = set(written) - daemon.query_valid_paths(written)
            if halves:
                delete_paths(store, sorted(map(str, halves)))

    def _count(self, size: int) -> None:
        self._bytes += size
        self._tell()

    def _tell(self) -> None:
        self._watcher.progress(Moved(self._paths, self._paths_total, self._bytes, self._bytes_total))

    def _renew(self, authorised: Authorised) -> str | None:
        self._watcher.detail("The token of the closure has expired; asking for another.")
        return renewed(self._hub, self._host, authorised).resolution.token


def path_info(manifest: Manifest, source: NarSource, place: int) -> PathInfo:
    """What Nix is told of a path: all of it from the manifest, but for the signatures."""
    entry = manifest.paths[place]
    return PathInfo(
        path=StorePath.from_base_name(entry.path),
        nar_hash=Hash.parse(entry.nar_hash),
        nar_size=entry.nar_size,
        references=tuple(StorePath.from_base_name(manifest.paths[index].path) for index in entry.references),
        signatures=tuple(source.signatures),
        ca=entry.content_address,
    )


def _wanted(authorised: Authorised, plan: Plan, places: list[int]) -> "Wanted":
    """What to ask for to get the NARs of these places."""
    from piste.host.supply import Wanted

    base = authorised.resolution.cache_url.rstrip("/") + "/"
    size = sum(estimate(plan.manifest, plan.sources, place) for place in places)
    if len(places) > 1:
        return Wanted(base + address(authorised.statement.manifest, places), size, size, True)
    source = plan.sources[places[0]]
    url = urljoin(base, source.url)
    # The token is for the hub's own cache: an upstream has no business with it.
    return Wanted(url, source.file_size, size, url.startswith(base))


def _explained(error: PisteError) -> PisteError:
    if error.ref != "disk-full" and disk_is_full(error.message):
        return PisteError(
            "disk-full",
            f"There is no space left for the store. {error.message}",
            hint="Make room, for example with `nix-collect-garbage -d`, and try again: what was fetched"
            " whole is kept.",
        )
    return error
