"""Whole answers that were right a moment ago, for the many narinfos and NARs that one client asks for.

An answer counts for exactly the bytes of the request that it was made for, from the same address, and only
while nothing in the database has changed since; the database is asked for that several times a second, and
where that is longer ago than a second no answer counts. So it is never older than what the hub promises of a
revocation. It holds no token, only hashes of the headers that held one.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

POLL_SECONDS: Final = 0.1
_REST_SECONDS: Final = 0.01  # so that many changes at once cost few looks
STALE_SECONDS: Final = 0.9
# How long a credential goes without its use being noted, as for other reads of the cache.
KEPT_SECONDS: Final = 30.0
_MOST_BYTES: Final = 48 << 20
_MOST_ASKERS: Final = 2000
_OVERHEAD: Final = 300  # bytes of an entry beside the answer itself

_log = structlog.get_logger("piste.hub.requests")


@dataclass(frozen=True)
class Keep:
    """Said of an answer that may be given again: until when (monotonic seconds), and what its log line
    has."""

    until: float
    route: str
    token: str | None
    client: str


@dataclass(frozen=True)
class FileAnswer:
    """An answer whose body is a file; `head` is what stands before it, after the id of the request."""

    head: bytes
    path: str
    size: int

    def __len__(self) -> int:
        return len(self.head) + len(self.path)


Answer = bytes | FileAnswer


@dataclass
class Asker:
    """One client with one set of headers."""

    keep: Keep
    # Request line up to the version → route, and all of the answer after its id.
    answers: dict[bytes, tuple[str, Answer]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # by route


class Memory:
    """Answers by what was asked, in all connections of this process."""

    def __init__(self) -> None:
        self.generation = 0
        self._askers: dict[tuple[str, bytes], Asker] = {}
        self._bytes = 0
        self._fresh_until = 0.0
        self._version: object = None
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()  # while there is anything to look at

    def find(self, peer: str, line: bytes, headers: bytes) -> Answer | None:
        """The answer to a request: its line up to the version, and all that follows."""
        asker = self._askers.get((peer, _digest(headers)))
        if asker is None:
            return None
        now = time.monotonic()
        if now > self._fresh_until or now > asker.keep.until:
            return None
        found = asker.answers.get(line)
        if found is None:
            return None
        route, answer = found
        asker.counts[route] = asker.counts.get(route, 0) + 1
        return answer

    def keep(
        self, peer: str, line: bytes, headers: bytes, keep: Keep, answer: Answer, generation: int
    ) -> None:
        """Take an answer that was begun in a generation; what changed meanwhile makes it none."""
        if generation != self.generation:
            return
        size = len(line) + len(answer) + _OVERHEAD
        if self._bytes + size > _MOST_BYTES or len(self._askers) >= _MOST_ASKERS:
            self.forget()
        key = (peer, _digest(headers))
        asker = self._askers.get(key)
        if asker is None:
            asker = self._askers[key] = Asker(keep)
        # The credential was found good anew; what was answered before holds as long as nothing has changed.
        asker.keep = keep
        asker.answers[line] = (keep.route, answer)
        self._bytes += size
        self._wanted.set()

    def forget(self) -> None:
        """All of it."""
        for key in list(self._askers):
            self._tell(key)
        self._bytes = 0
        self.generation += 1
        self._wanted.clear()

    def stale(self) -> None:
        """This process has changed something itself: nothing counts until it was looked at."""
        self._fresh_until = 0.0
        self._changed.set()

    async def watch(
        self, version: Callable[[], Awaitable[object]], learn: Callable[[], Awaitable[None]]
    ) -> None:
        """Runs as long as the process serves. `version` is another one after each change of the database;
        `learn` then brings up to date what answers are made of beside it."""
        told = time.monotonic()
        while True:
            await self._wanted.wait()
            try:
                await self.look(version, learn)
            except Exception as error:
                # Nothing counts until the database answers again.
                _log.warning("answers-not-checked", error=type(error).__name__)
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                self.tell()
            await asyncio.sleep(_REST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._changed.wait()

    async def look(
        self, version: Callable[[], Awaitable[object]], learn: Callable[[], Awaitable[None]]
    ) -> None:
        """Whether what is known still holds."""
        self._changed.clear()
        started = time.monotonic()
        found = await version()
        if found != self._version:
            # In this order: an answer made before the change was learnt is of the generation that ends.
            await learn()
            self._version = found
            self.forget()
        if not self._changed.is_set():
            self._fresh_until = started + STALE_SECONDS

    def tell(self) -> None:
        """Log what was answered since the last time: a line for each client instead of one for each
        request."""
        now = time.monotonic()
        for key, asker in list(self._askers.items()):
            _tell(asker)
            if now > asker.keep.until + KEPT_SECONDS:
                del self._askers[key]
        if not self._askers:
            self.forget()

    def _tell(self, key: tuple[str, bytes]) -> None:
        asker = self._askers.pop(key, None)
        if asker is not None:
            _tell(asker)


def _digest(headers: bytes) -> bytes:
    return hashlib.sha256(headers).digest()


def _tell(asker: Asker) -> None:
    keep = asker.keep
    for route, count in asker.counts.items():
        _log.info(
            "requests", count=count, method="GET", route=route, status=200, token=keep.token,
            client=keep.client,
        )  # fmt: skip
    asker.counts.clear()
