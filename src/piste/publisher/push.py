"""A push of paths into a project's cache, apart from any release:

    closure → ask what is missing → pin what upstreams have → declare → upload → finish

Where nothing is missing it ends with the first question. The paths join the cache at the last step, all of
them, or not at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from piste.client.api import HubClient, push_path
from piste.lib.errors import PisteError, UnreachableError
from piste.nix.narinfo import PathInfo
from piste.nix.signature import SecretKey
from piste.nix.store_path import StorePath
from piste.nixcmd.daemon import Daemon
from piste.publisher import signing, upload
from piste.publisher.records import Progress
from piste.wire.organizations import Upstream
from piste.wire.publication import Declaration, DeclaredPath
from piste.wire.pushes import WantedPaths

if TYPE_CHECKING:
    from piste.publisher.upstream import Pin

_DECLARED_AT_ONCE: Final = 5_000  # paths; 32 MiB is the most that the hub takes
_ASKED_AT_ONCE: Final = 100_000


@dataclass(frozen=True)
class PushWish:
    """What the caller asked for."""

    organization: str
    project: str
    paths: tuple[StorePath, ...]
    connections: int = 4
    signing_keys: tuple[SecretKey, ...] = ()  # empty: the hub signs


@dataclass
class Pushed:
    """What came of it: `present` were there before, `pinned` are left where an upstream has them."""

    paths: list[str]
    paths_uploaded: int = 0
    bytes_uploaded: int = 0
    paths_present: int = 0
    paths_pinned: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def push(client: HubClient, daemon: Daemon, wish: PushWish, progress: Progress) -> Pushed:
    """Push the closures of some paths. Repeating it after a failure sends what is missing then."""
    return _Pushing(client, daemon, wish, progress).run()


class _Pushing:
    """One run."""

    def __init__(self, client: HubClient, daemon: Daemon, wish: PushWish, progress: Progress) -> None:
        self._client = client
        self._daemon = daemon
        self._wish = wish
        self._progress = progress
        self._place = (wish.organization, wish.project)
        self._result = Pushed([str(path) for path in wish.paths])

    def run(self) -> Pushed:
        with self._timed("closure"):
            self._daemon.add_temp_roots(self._wish.paths)  # a root keeps its whole closure
            infos = {info.path.base_name: info for info in self._daemon.closure(self._wish.paths).values()}
        with self._timed("ask"):
            missing, upstreams = self._ask(list(infos))
        self._result.paths_present = len(infos) - len(missing)
        if missing:
            self._push([infos[name] for name in missing], upstreams)
        seconds = self._result.seconds
        self._result.seconds = {step: round(taken, 3) for step, taken in seconds.items()}
        return self._result

    def _ask(self, names: Sequence[str]) -> tuple[list[str], Mapping[str, list[str]]]:
        keys = [key.name for key in self._wish.signing_keys]
        missing: list[str] = []
        upstreams: dict[str, list[str]] = {}
        for start in range(0, len(names), _ASKED_AT_ONCE):
            wanted = WantedPaths(list(names[start : start + _ASKED_AT_ONCE]), keys)
            answer = self._client.lacking(*self._place, wanted)
            missing += answer.missing
            upstreams |= answer.upstream_keys
        return missing, upstreams

    def _push(self, infos: Sequence[PathInfo], upstreams: Mapping[str, list[str]]) -> None:
        with self._timed("declare"):
            identifier, wanted = self._declare(self._declared(infos, upstreams))
        try:
            by_name = {info.path.base_name: info for info in infos}
            with self._timed("upload"):
                self._upload(identifier, [by_name[name] for name in wanted])
            with self._timed("finish"):
                self._client.finish_push(*self._place, identifier)
        except UnreachableError:
            raise  # the hub can't be told; what was staged expires by itself
        except BaseException:
            self._try_abandon(identifier)
            raise

    def _declared(self, infos: Sequence[PathInfo], upstreams: Mapping[str, list[str]]) -> list[DeclaredPath]:
        pins = _find_pins(infos, upstreams) if upstreams else {}
        keys = self._wish.signing_keys
        declared = []
        for info in infos:
            address, narinfo = pins.get(info, (None, None))
            declared.append(signing.described(info, keys, address=address, narinfo=narinfo))
        return declared

    def _declare(self, declared: Sequence[DeclaredPath]) -> tuple[str, list[str]]:
        """The push's id, and what is to be uploaded."""
        parts = [
            Declaration(list(declared[start : start + _DECLARED_AT_ONCE]))
            for start in range(0, len(declared), _DECLARED_AT_ONCE)
        ]
        opened = self._client.open_push(*self._place, parts[0])
        answers = [opened.declared]
        answers += [self._client.declare_more(*self._place, opened.id, part) for part in parts[1:]]
        self._result.paths_present += sum(answer.present for answer in answers)
        self._result.paths_pinned = sum(answer.pinned for answer in answers)
        return opened.id, [name for answer in answers for name in answer.missing]

    def _upload(self, identifier: str, infos: Sequence[PathInfo]) -> None:
        self._result.paths_uploaded = len(infos)
        # Paths of the same content are one NAR.
        nars = list({info.nar_hash: info for info in infos}.values())
        if not nars:
            return
        self._progress.start(len(nars), sum(info.nar_size for info in nars))
        place = upload.Place(self._client, push_path(*self._place, identifier))
        try:
            self._result.bytes_uploaded = upload.upload(
                place, self._daemon, nars, self._progress, connections=self._wish.connections
            )
        finally:
            self._progress.stop()

    def _try_abandon(self, identifier: str) -> None:
        """Take back what was staged; if that fails, it expires."""
        try:
            self._client.abandon_push(*self._place, identifier)
        except PisteError:
            return

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = monotonic()
        try:
            yield
        finally:
            seconds = self._result.seconds
            seconds[step] = seconds.get(step, 0.0) + monotonic() - start


def _find_pins(infos: Sequence[PathInfo], upstreams: Mapping[str, list[str]]) -> "dict[PathInfo, Pin]":
    from piste.publisher.upstream import find_pins  # slow to import, and seldom needed

    return find_pins(infos, [Upstream(address, keys, 0) for address, keys in upstreams.items()])
