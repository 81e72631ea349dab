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
from piste.lib.errors import AccessError, PisteError
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


class TryAgainError(Exception):
    """What failed may have failed by a delta, or by what an earlier fetch left: try without either."""

    def __init__(self, message: str, delta: DeltaOffer | None = None) -> None:
        super().__init__(message)
        self.delta = delta


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
        self._spoiled: str | None = None  # the key of what is not what was promised
        self.received = 0
        self.speed: float | None = None

    def run(self, daemon: Daemon) -> None:
        """Bring in all that the plan lacks; the daemon is of no more use if that fails."""
        count = len(self._plan.missing)
        self._watcher.step(f"Fetching {count} path{'s' if count != 1 else ''}")
        with Spool(spool_folder(self._host)) as spool:
            try:
                check_space(self._host.store, self._plan, spool.size())
                self._transfer(daemon, spool)
            except OSError as error:
                spool.keep = error.errno not in (errno.ENOSPC, errno.EDQUOT)
                raise
            except PisteError as error:
                spool.keep = error.ref != "disk-full"
                raise
            finally:
                if self._spoiled is not None:
                    spool.forget(self._spoiled)
            spool.keep = False

    def _transfer(self, daemon: Daemon, spool: Spool) -> None:
        plan, authorised = self._plan, self._authorised
        begins = _begins(plan)
        items = list(_items(authorised, plan, begins))

        def bundle(places: list[int]) -> str:
            return cache_base(authorised) + address(authorised.statement.manifest, places)

        with Supply(items, spool, bundle, plan.token, self._renew, self._count) as supply:
            try:
                daemon.add_multiple(len(plan.missing), self._paths_of(items, begins, supply))
            except BaseException as error:
                daemon.close()
                discard_halves(self._host.store, plan)
                if not isinstance(error, PisteError):
                    raise
                raise _explained(error) from error
            self.speed = supply.speed

    def _paths_of(
        self, items: list[Item], begins: dict[int, DeltaOffer], supply: Supply
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
            own = range(first, number)
            if (offer := begins.get(place)) is not None:
                pieces = partial(_joined, supply.take, own)
                made = Rebuilt(self._host.store, plan.manifest, plan.rebuilding, offer, pieces)
                rebuilt |= {each: made for each in offer.places if each in wanted}
            source = plan.sources[place]
            info = path_info(plan.manifest, source, place)
            if place in rebuilt:
                yield info, self._by_delta(rebuilt.pop(place), place, info)
            else:
                yield info, self._whole(supply, own, items[first].key, source.compression, info)
            with self._counting:
                self._paths += 1
                self._tell()

    def _by_delta(self, made: Rebuilt, place: int, info: PathInfo) -> Iterator[bytes]:
        """A NAR that is made of an older one. Whatever is wrong with the delta need not be with the NAR."""
        try:
            yield from unpack(made.nar(place), "none", info)
        except AccessError:
            raise
        except (PisteError, DeltaError) as error:
            self._spoiled = _delta_key(self._authorised, self._plan, made.offer)
            raise TryAgainError(f"A delta can't be used, and is made up for: {error}", made.offer) from error

    def _whole(
        self, supply: Supply, own: range, key: str | None, compression: str, info: PathInfo
    ) -> Iterator[bytes]:
        pieces = _joined(supply.take, own)
        try:
            yield from unpack(pieces, compression, info)
        except PisteError as error:
            if error.ref == "nar-corrupt":
                self._spoiled = key
                if supply.was_left(own):
                    raise TryAgainError(
                        f"What an earlier fetch left of {info.path} is not what was promised, and is fetched"
                        " again."
                    ) from error
            raise

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


def check_space(store: Store, plan: Plan, fetched: int = 0) -> None:
    """Refuse what can't fit before it is downloaded: Nix would read all of it before it says so.

    Unpacked it is larger, but a file system may compress what it keeps; this much it takes at least, and what
    was fetched before makes room when it is in the store.
    """
    folder = store.real_path(STORE_DIR)
    place = next(one for one in (folder, *folder.parents) if one.exists())
    usage = os.statvfs(place)
    free = usage.f_bavail * usage.f_frsize
    if plan.bytes_to_fetch > free + fetched:
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
    url = _delta_url(authorised, plan, offer)
    return Item(place, url, offer.size, offer.size, True, _delta_key(authorised, plan, offer))


def _delta_url(authorised: Authorised, plan: Plan, offer: DeltaOffer) -> str:
    return cache_base(authorised) + address_of(plan.rebuilding, authorised.statement.manifest, offer)


def _delta_key(authorised: Authorised, plan: Plan, offer: DeltaOffer) -> str:
    return f"{_delta_url(authorised, plan, offer)}.{offer.size}"


def _explained(error: PisteError) -> PisteError:
    if error.ref != "disk-full" and disk_is_full(error.message):
        return PisteError(
            "disk-full",
            f"There is no space left for the store. {error.message}",
            hint="Make room, for example with `nix-collect-garbage -d`, and try again: what was fetched"
            " whole is kept.",
        )
    return error
