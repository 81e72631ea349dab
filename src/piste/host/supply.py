"""Stage 3, the far half: NARs come in, many at once and in no one's order, within bounds of memory and disk.

Threads download into the spool; the thread that imports takes one item after another, in import order, and
may read what is there of one while the rest still comes. Room is given out in import order, and what is
waited for always gets some: neither side can wait for the other for ever.
"""

import threading
import time
from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, Self
from urllib.parse import urlsplit

from piste.client.download import BrokenTransferError, Downloader, Failure
from piste.client.hub import reason_of, unreachable
from piste.host.bundles import Item, group
from piste.host.spool import ROOM, Left, Spool, SpoolFile
from piste.lib.errors import AccessError, PisteError, UnreachableError
from piste.lib.retry import Backoff

CONNECTIONS: Final = 16  # more gain nothing on a fast line, and cost the hub
_WAITING: Final = 128  # files that may wait
_BEGUN: Final = 4096  # bytes of an item that are worth asking for the rest of it alone
# What was read is certainly imported once this much more was: pipes and buffers hold less.
_LAG: Final = 4 << 20
# Together half a minute: a hub that is started anew is back by then.
_BACKOFF: Final = Backoff(attempts=9)
# How many new tokens one request is worth: the first may have expired on the way too.
_RENEWALS: Final = 3
_JOIN: Final = 5.0
_NONE: Final = -1
_TELLING: Final = 2 << 20  # bytes that have to come to tell how fast they do


class AbandonedError(Exception):
    """The other side has gone away; why, is told there."""


class Supply:
    """The items of a plan. Use it in a `with` block, and take them in order, each to its end.

    `bundle` tells the address at which several places are one answer; `renew` gives a new token when the
    old one has expired; `count` is told of bytes as they come.
    """

    def __init__(
        self,
        items: Sequence[Item],
        spool: Spool,
        bundle: Callable[[list[int]], str],
        token: str | None,
        renew: Callable[[], str | None],
        count: Callable[[int], None],
    ) -> None:
        self._items = items
        self._spool = spool
        self._bundle = bundle
        self._count = count
        self._tokens = _Tokens(token, renew)
        self._held: dict[int, Left] = {}
        self._begun: dict[int, Left] = {}
        self._take_up(spool.left({item.key for item in items if item.key is not None}))
        self._jobs = self._grouped()
        self._job_of = array("l", [_NONE]) * len(items)
        self._offset_in_job = array("q", [0]) * len(items)
        for order, job in enumerate(self._jobs):
            for number, offset in zip(job, self._offsets(job), strict=False):
                self._job_of[number] = order
                self._offset_in_job[number] = offset
        self._changed = threading.Condition()
        self._next = self._used = self._open = self._came = 0
        self._began = self._last = time.monotonic()
        self._asked = -1  # the job that is waited for
        self._bundled = True
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._files: dict[int, SpoolFile] = {}
        self._books = _Books(items, spool, self._free)
        self._downloaders: list[Downloader] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for _ in range(min(CONNECTIONS, len(self._jobs))):
            self._downloaders.append(Downloader())
            argument = (self._downloaders[-1],)
            self._threads.append(
                threading.Thread(target=self._work, args=argument, name="downloads", daemon=True)
            )
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        for downloader in self._downloaders:
            downloader.abort()
        for thread in self._threads:
            thread.join(_JOIN)
        for file in self._files.values():
            file.close()

    def take(self, number: int) -> Iterator[bytes]:
        """The bytes of an item as they were sent; its room is free some time after they were read."""
        held = self._held.get(number)
        if held is not None:
            file, offset = held.file, held.offset
        else:
            file, offset = self._file_of(number)
        size = 0
        for piece in file.pieces(offset, self._items[number].size):
            size += len(piece)
            yield piece
        self._books.read(number, size, file, self._jobs_left(number))

    def was_left(self, numbers: Iterable[int]) -> bool:
        """Whether an earlier fetch left something of these items."""
        return any(number in self._held or number in self._begun for number in numbers)

    @property
    def speed(self) -> float | None:
        """Bytes a second, where enough came to tell."""
        if self._came < _TELLING or self._last <= self._began:
            return None
        return self._came / (self._last - self._began)

    def _counted(self, size: int) -> None:
        """Bytes came; only roughly right, since threads may come between."""
        self._came += size
        self._last = time.monotonic()
        self._count(size)

    def _jobs_left(self, number: int) -> int | None:
        """The job of an item, if this was the last of it that was to be read."""
        order = self._job_of[number]
        return order if order != _NONE and self._jobs[order][-1] == number else None

    def _file_of(self, number: int) -> tuple[SpoolFile, int]:
        order = self._job_of[number]
        with self._changed:
            self._asked = max(self._asked, order)
            self._changed.notify_all()
            self._changed.wait_for(lambda: order in self._files or self._error is not None)
            if order not in self._files:
                raise self._error or AbandonedError
            return self._files[order], self._offset_in_job[number]

    def _offsets(self, job: list[int]) -> list[int]:
        return [0, *accumulate(self._items[number].size or 0 for number in job)]

    # what an earlier fetch left

    def _take_up(self, left: dict[tuple[str, int], Left]) -> None:
        seen: set[tuple[str, int]] = set()
        for number, item in enumerate(self._items):
            found = left.get((item.key, item.start)) if item.key is not None else None
            if item.key is None or found is None or item.size is None:
                continue
            # A part goes once it was read; another path with the same NAR can't have it as well.
            if item.part and (item.key, item.start) in seen:
                continue
            seen.add((item.key, item.start))
            if found.size == item.size:
                self._held[number] = found
            elif found.size >= _BEGUN:
                self._begun[number] = found

    def _grouped(self) -> list[list[int]]:
        fresh = (n for n in range(len(self._items)) if n not in self._held and n not in self._begun)
        return sorted([*group(self._items, fresh), *([number] for number in self._begun)])

    # the downloads' threads

    def _work(self, downloader: Downloader) -> None:
        try:
            while (order := self._next_job()) is not None:
                self._bring(downloader, order)
        finally:
            downloader.close()

    def _next_job(self) -> int | None:
        """The next job, once there is room for it; one that is waited for gets some in any case."""
        with self._changed:
            while not self._stopped.is_set() and self._next < len(self._jobs):
                order = self._next
                size = sum(self._items[number].estimate for number in self._jobs[order])
                full = self._used + size > ROOM or self._open >= _WAITING
                if not full or not self._open or order <= self._asked:
                    self._next += 1
                    self._used += size
                    self._open += 1
                    return order
                self._changed.wait()
        return None

    def _bring(self, downloader: Downloader, order: int) -> None:
        """Never raises: what went wrong is told to whoever takes the items."""
        job = self._jobs[order]
        try:
            file = self._spool.create([self._items[number] for number in job])
        except OSError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
            return
        with self._changed:
            self._files[order] = file
            self._changed.notify_all()
        try:
            if (begun := self._begun.get(job[0])) is not None:
                for piece in begun.file.pieces(begun.offset, begun.size):
                    file.write(piece)
                if self._items[job[0]].part:
                    begun.file.drop()
            self._fill(downloader, job, file)
            file.end(None)
        except BaseException as error:
            file.end(AbandonedError() if self._stopped.is_set() else error)

    def _fill(self, downloader: Downloader, job: list[int], file: SpoolFile) -> None:
        waits = _BACKOFF.waits()
        while True:
            if file.written and file.written == self._offsets(job)[-1]:
                return
            before = file.written
            try:
                if self._attempt_renewing(downloader, job, file):
                    return
            except Failure as error:
                # Progress starts the count anew: a long transfer may break more often than a short one.
                waits = _BACKOFF.waits() if file.written > before else waits
                wait = next(waits, None)
                if wait is None:
                    raise _given_up(self._items[job[0]], error) from error
                self._stopped.wait(wait)
            if self._stopped.is_set():
                raise AbandonedError

    def _attempt_renewing(self, downloader: Downloader, job: list[int], file: SpoolFile) -> bool:
        """One attempt, with another token where ours has expired."""
        for _ in range(_RENEWALS):
            token = self._tokens.current
            try:
                return self._attempt(downloader, job, file, token)
            except AccessError:
                if not self._tokens.replaced(token):
                    raise
        return self._attempt(downloader, job, file, self._tokens.current)

    def _attempt(self, downloader: Downloader, job: list[int], file: SpoolFile, token: str | None) -> bool:
        """One request for what is still to come; whether that was all."""
        offsets = self._offsets(job)
        at = bisect_right(offsets, file.written, hi=len(job)) - 1
        item, behind = self._items[job[at]], file.written - offsets[at]
        headers = {"Authorization": f"Bearer {token}"} if token and item.from_cache else {}

        def write(piece: bytes) -> None:
            if item.from_cache:
                self._tokens.accepted(token)
            file.write(piece)
            self._counted(len(piece))

        if at + 1 < len(job) and not behind and self._bundled:
            url = self._bundle([self._items[number].place for number in job[at:]])
            try:
                downloader.receive(url, write, headers=headers, size=offsets[-1] - offsets[at])
            except PisteError as error:
                if error.ref not in ("not-found", "bad-answer"):
                    raise
                self._bundled = False  # a hub that has none, or a NAR that is told of by its own answer
                return False
            return True
        size = None if item.size is None else item.size - behind
        try:
            downloader.receive(
                item.url, write, headers=headers, start=item.start + behind, size=size, part=item.part
            )
        except PisteError as error:
            if item.from_cache or error.ref == "transfer-mismatch":
                raise
            raise _not_at_upstream(item, error) from error
        return at + 1 == len(job)

    def _free(self, order: int) -> None:
        """A job's room is there for others."""
        with self._changed:
            self._used -= sum(self._items[number].estimate for number in self._jobs[order])
            self._open -= 1
            del self._files[order]
            self._changed.notify_all()


class _Books:
    """What was read, and which files may go: those whose NARs are in the store by now.

    A NAR that takes more than its share of the spool gives the room of what was read of it to what comes
    next, and keeps the bytes for as long as the disk has plenty of space: whoever is killed in the middle of
    it would have to fetch all of it again.
    """

    def __init__(self, items: Sequence[Item], spool: Spool, free: Callable[[int], None]) -> None:
        self._items = items
        self._spool = spool
        self._free = free
        self._read = 0
        self._parts: list[tuple[int | None, SpoolFile]] = []  # of a NAR that is not whole yet
        self._spent: deque[tuple[int, int | None, SpoolFile]] = deque()
        self._sizes: Counter[int] = Counter()
        for item in items:
            if item.part:
                self._sizes[item.place] += item.estimate

    def read(self, number: int, size: int, file: SpoolFile, order: int | None) -> None:
        """An item was read; `order` is the job that ends with it."""
        item = self._items[number]
        self._read += size
        if order is not None or item.part:
            self._parts.append((order, file))
        if item.last:
            self._spent.extend((self._read, *each) for each in self._parts)
            self._parts.clear()
        elif self._sizes[item.place] > ROOM // 2:
            self._set_aside()
        while self._spent and self._spent[0][0] + _LAG < self._read:
            _, spent, old = self._spent.popleft()
            old.drop()
            if spent is not None:
                self._free(spent)

    def _set_aside(self) -> None:
        order, file = self._parts.pop()
        file.close()  # there may be more of them than a process may have open
        if order is not None:
            self._free(order)
        self._parts.append((None, file))
        if not self._spool.has_plenty():
            for _, each in self._parts:
                each.drop()
            self._parts.clear()


class _Tokens:
    """The closure's token, renewed once for all threads when it has expired."""

    def __init__(self, token: str | None, renew: Callable[[], str | None]) -> None:
        self.current = token
        self._renew = renew
        self._counted = True  # the current one was taken, or is the one that we came with
        self._refusal: PisteError | None = None
        self._lock = threading.Lock()

    def accepted(self, token: str | None) -> None:
        if token == self.current:
            self._counted = True

    def replaced(self, refused: str | None) -> bool:
        """Whether there is another one now. One that was never taken is refused for another reason than its
        age, unless it is the one that we came with. Who may not have another is told so once for all."""
        with self._lock:
            if self.current != refused:
                return True
            if self._refusal is not None:
                raise self._refusal
            if refused is None or not self._counted:
                return False
            try:
                self.current = self._renew()
            except UnreachableError as error:
                raise BrokenTransferError(error.message) from error  # the hub may be started anew just now
            except PisteError as error:
                self._refusal = error
                raise
            self._counted = False
            return self.current not in (None, refused)


def _given_up(item: Item, error: Exception) -> UnreachableError:
    if item.from_cache:
        return unreachable(item.url.partition("?")[0], error)
    return UnreachableError(
        "upstream-unreachable",
        f"The upstream cache {urlsplit(item.url).netloc} can't be reached: {reason_of(error)}.",
        hint="What the organization leaves to an upstream comes from there alone. Let the host reach it, or"
        " wait until it answers, and try again: what was fetched is kept.",
    )


def _not_at_upstream(item: Item, error: PisteError) -> PisteError:
    return PisteError(
        "upstream-refused",
        f"The upstream cache {urlsplit(item.url).netloc} does not give a NAR of the release: {error.message}",
        hint="What the organization leaves to an upstream comes from there alone; whoever runs it may know"
        " why. What was fetched is kept.",
    )
