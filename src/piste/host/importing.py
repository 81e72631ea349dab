"""Stage 3, the near half: what a plan lacks comes in through Nix's daemon, in import order.

The daemon checks each path's signature before it reads the NAR, and the NAR's hash as it reads. We check hash
and size too, so that the message can say which NAR was bad. What was imported before something failed stays,
complete and unrooted, and what was downloaded waits in the spool; the next attempt goes on from there.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from threading import Lock
from typing import Final, NoReturn
from urllib.parse import urljoin

from piste.host.bundles import Item, address, parts_of
from piste.host.deltas import Rebuilt, address_of
from piste.host.place import Host
from piste.host.plan import estimate
from piste.host.records import Authorised, Moved, Plan, Watcher
from piste.host.spool import Spool, spool_folder
from piste.host.supply import Supply
from piste.host.unpack import unpack
from piste.lib.delta import DeltaError
from piste.lib.errors import PisteError
from piste.nix.hashes import Hash
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import STORE_DIR, StorePath
from piste.nixcmd.build import delete_paths
from piste.nixcmd.daemon import Daemon, disk_is_full
from piste.nixcmd.daemon import Item as ImportItem
from piste.nixcmd.store import Store
from piste.wire.deltas import DeltaOffer
from piste.wire.manifest import Manifest
from piste.wire.resolution import NarSource

# What may be wrong with a delta, and need not be with the NAR itself.
_OF_DELTA: Final = frozenset(("nar-corrupt", "not-found", "transfer-mismatch"))


class TryPlainlyError(Exception):
    """What failed may have failed by what an earlier fetch left, or by a delta: try without either."""


class Importing:
    """One import. `renew` gives another token of the closure when the first has expired."""

    def __init__(
        self,
        host: Host,
        watcher: Watcher,
        authorised: Authorised,
        plan: Plan,
        renew: Callable[[], str | None],
    ) -> None:
        self._host = host
        self._watcher = watcher
        self._authorised = authorised
        self._plan = plan
        self._renew = renew
        self._counting = Lock()
        self._paths = 0
        self._by_delta = False
        self.received = 0
        self.speed: float | None = None

    def run(self, daemon: Daemon) -> None:
        """Bring in all that the plan lacks; the daemon is of no more use if that fails."""
        check_space(self._host.store, self._plan)
        count = len(self._plan.missing)
        self._watcher.step(f"Fetching {count} path{'s' if count != 1 else ''}")
        with Spool(spool_folder(self._host)) as spool:
            try:
                self._transfer(daemon, spool)
            except OSError as error:
                spool.keep = error.errno not in (errno.ENOSPC, errno.EDQUOT)
                raise
            except (PisteError, TryPlainlyError) as error:
                # What lies there is of no use if it is not what was promised, and in the way on a full disk.
                spool.keep = isinstance(error, PisteError) and error.ref not in ("nar-corrupt", "disk-full")
                raise
            spool.keep = False

    def _transfer(self, daemon: Daemon, spool: Spool) -> None:
        plan, authorised = self._plan, self._authorised
        begins = _begins(plan)
        items = list(_items(authorised, plan, begins))

        def bundle(places: list[int]) -> str:
            return cache_base(authorised) + address(authorised.statement.manifest, places)

        with Supply(items, spool, bundle, plan.token, self._renew, self._count) as supply:
            try:
                daemon.add_multiple(len(plan.missing), self._paths_of(items, begins, supply.take))
            except BaseException as error:
                daemon.close()
                discard_halves(self._host.store, plan)
                if not isinstance(error, PisteError | DeltaError):
                    raise
                self._raise_for(error, supply.taken_up)
            self.speed = supply.speed

    def _raise_for(self, error: PisteError | DeltaError, taken_up: bool) -> NoReturn:
        """The error for people, or that another attempt may do without what failed."""
        if isinstance(error, DeltaError) or (self._by_delta and error.ref in _OF_DELTA):
            raise TryPlainlyError(f"A delta can't be used: {error}") from error
        if error.ref == "nar-corrupt" and taken_up:
            raise TryPlainlyError("What an earlier fetch left is not what was promised.") from error
        raise _explained(error) from error

    def _paths_of(
        self, items: list[Item], begins: dict[int, DeltaOffer], take: Callable[[int], Iterator[bytes]]
    ) -> Iterator[ImportItem]:
        """What the daemon is given, in import order; the items are in the same."""
        plan, number = self._plan, 0
        # Of a delta that nothing needs any more nothing is kept.
        wanted = set(plan.missing) if begins else set()
        rebuilt: dict[int, Rebuilt] = {}
        for place in plan.missing:
            first = number
            while number < len(items) and items[number].place == place:
                number += 1
            pieces = partial(_joined, take, range(first, number))
            if (offer := begins.get(place)) is not None:
                made = Rebuilt(self._host.store, plan.manifest, plan.rebuilding, offer, pieces)
                rebuilt |= {each: made for each in offer.places if each in wanted}
            source = plan.sources[place]
            info = path_info(plan.manifest, source, place)
            self._by_delta = place in rebuilt
            if self._by_delta:
                yield info, unpack(rebuilt.pop(place).nar(place), "none", info)
            else:
                yield info, unpack(pieces(), source.compression, info)
            with self._counting:
                self._paths += 1
                self._tell()

    def _count(self, size: int) -> None:
        with self._counting:  # many threads bring them
            self.received += size
            self._tell()

    def _tell(self) -> None:
        total = len(self._plan.missing)
        self._watcher.progress(Moved(self._paths, total, self.received, self._plan.bytes_to_fetch))


def _begins(plan: Plan) -> dict[int, DeltaOffer]:
    """The deltas, by the place where each is needed first."""
    missing = set(plan.missing)
    return {min(missing.intersection(offer.places)): offer for offer in plan.rebuilding.offers}


def _items(authorised: Authorised, plan: Plan, begins: Mapping[int, DeltaOffer]) -> Iterator[Item]:
    """What is asked for, NARs and deltas, from the place on where each is needed first."""
    covered = plan.rebuilding.places
    for place in plan.missing:
        if (offer := begins.get(place)) is not None:
            yield from parts_of(_delta_item(authorised, plan, place, offer))
        elif place not in covered:
            yield from parts_of(_item(authorised, plan, place))


def _joined(take: Callable[[int], Iterator[bytes]], numbers: range) -> Iterator[bytes]:
    return chain.from_iterable(map(take, numbers))


def check_space(store: Store, plan: Plan) -> None:
    """Refuse what can't fit before it is downloaded: Nix would read all of it before it says so.

    Unpacked it is larger, but a file system may compress what it keeps; this much it takes at least.
    """
    folder = store.real_path(STORE_DIR)
    place = next(one for one in (folder, *folder.parents) if one.exists())
    usage = os.statvfs(place)
    free = usage.f_bavail * usage.f_frsize
    if plan.bytes_to_fetch > free:
        raise PisteError(
            "disk-full",
            f"{plan.bytes_to_fetch} bytes have to be fetched, and {place} has room for {free}.",
            hint="Make room, for example with `nix-collect-garbage -d`, and try again.",
        )


def discard_halves(store: Store, plan: Plan) -> None:
    """Nix leaves what it was writing until its next garbage collection, which is long on a full disk."""
    paths = [StorePath.from_base_name(plan.manifest.paths[place].path) for place in plan.missing]
    written = [path for path in paths if os.path.lexists(store.real_path(str(path)))]
    with contextlib.suppress(PisteError):
        with Daemon(store) as daemon:
            halves = set(written) - daemon.query_valid_paths(written)
        if halves:
            delete_paths(store, sorted(map(str, halves)))


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


def cache_base(authorised: Authorised) -> str:
    """What addresses of the project's cache begin with."""
    return authorised.resolution.cache_url.rstrip("/") + "/"


def _item(authorised: Authorised, plan: Plan, place: int) -> Item:
    """The NAR of a path, as it is to be asked for."""
    base, source = cache_base(authorised), plan.sources[place]
    # The usual form needs no look at its parts, which takes longer than all else that is done here.
    url = base + source.url if source.url.startswith("nar/") else urljoin(base, source.url)
    size = source.file_size
    # The token is for the hub's own cache: an upstream has no business with it.
    own = url.startswith(base)
    # The manifest's own text where it will do: a hub never compresses a NAR anew.
    nar_hash = plan.manifest.paths[place].nar_hash
    named = nar_hash if own else f"{nar_hash}.{source.compression}.{size}"
    key = None if size is None else named
    return Item(
        place, url, size, size or estimate(plan.manifest, plan.sources, place), own, key, together=own
    )


def _delta_item(authorised: Authorised, plan: Plan, place: int, offer: DeltaOffer) -> Item:
    """A delta, which is one file of the cache."""
    url = cache_base(authorised) + address_of(plan.rebuilding, authorised.statement.manifest, offer)
    return Item(place, url, offer.size, offer.size, True, f"{url}.{offer.size}")


def _explained(error: PisteError) -> PisteError:
    if error.ref != "disk-full" and disk_is_full(error.message):
        return PisteError(
            "disk-full",
            f"There is no space left for the store. {error.message}",
            hint="Make room, for example with `nix-collect-garbage -d`, and try again: what was fetched"
            " whole is kept.",
        )
    return error
