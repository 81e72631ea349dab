"""Stage 3, planned → fetched: bring what is missing into the store, through Nix, and root it.

Usually as the plan says, by Nix's daemon. Where that is not possible (a daemon or an answer that this version
does not understand), Nix fetches the closure by itself, more slowly, and that is said.
"""

import contextlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from piste.client.api import HubClient
from piste.client.hub import HubConnection
from piste.host.importing import Importing, TryAgainError
from piste.host.memory import Memory
from piste.host.place import Host
from piste.host.plan import Told, ask, cache_credential, make_plan, plan_again
from piste.host.records import Authorised, Deployment, Fetched, Kind, Plan, Watcher
from piste.host.resolve import authorise, granted_keys, renewed
from piste.host.stopwatch import Stopwatch
from piste.lib.errors import AccessError, PisteError, UsageError
from piste.lib.process import CommandError
from piste.nix.flake_ref import Reference
from piste.nix.store_path import StorePath
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.store import Store
from piste.nixcmd.substitute import substitute
from piste.wire.resolution import Resolution

# Beyond so many bad deltas the others are not tried: each costs an import that is begun anew.
_SPOILED: Final = 3
# Of an hour each, for a closure that Nix fetches by itself.
_TOKENS: Final = 24
# What only says that this version does not understand the other side. What is wrong stays an error.
_UNUSUAL: Final = frozenset(("bad-answer", "daemon-unknown", "manifest-unknown", "unknown-compression"))


class _Starting:
    """A daemon that starts in a thread of its own, which costs no time while the hub is asked.

    Not a Future: that module alone takes longer to load than all of this does.
    """

    def __init__(self, store: Store, settings: Mapping[str, str]) -> None:
        self._store = store
        self._settings = settings
        self._outcome: Daemon | BaseException
        self._thread = threading.Thread(target=self._run, name="daemon", daemon=True)
        self._thread.start()

    def result(self) -> Daemon:
        """The daemon, as soon as it is there; raises what kept it from starting."""
        self._thread.join()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def close(self) -> None:
        self._thread.join()
        if isinstance(self._outcome, Daemon):
            self._outcome.close()

    def _run(self) -> None:
        try:
            self._outcome = Daemon(self._store, self._settings)
        except BaseException as error:
            self._outcome = error


class Fetching:
    """One fetch, step by step. Use it in a `with` block."""

    def __init__(self, hub: HubClient, host: Host, watcher: Watcher, seconds: Stopwatch) -> None:
        self._hub = hub
        self._host = host
        self._watcher = watcher
        self._seconds = seconds
        self._starting: _Starting | None = None
        self._settings: dict[str, str] = {}
        self._memory = Memory(host)
        self._told: Told | None = None
        self._speed: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._starting is not None:
            self._starting.close()

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
        self._settings = {"require-sigs": "true"} | ({"extra-trusted-public-keys": keys} if keys else {})
        self._restart()

    def authorise(
        self, reference: Reference, kind: Kind, history: Iterable[Deployment], *, exact: bool | None = None
    ) -> Authorised:
        """Ask the hub, and believe what a trusted key signed. Starts Nix meanwhile."""
        self.start_daemon(reference.organization)
        with self._seconds.step("resolve"):
            running = None
            with contextlib.suppress(PisteError):
                running = self._host.running(kind)
            self._told = ask(self._hub, self._host, self._memory, reference, running)
            return authorise(self._told.resolution, self._host, reference, history, exact=exact)

    def plan(self, authorised: Authorised) -> Plan:
        """What there is to do."""
        if (told := self._told) is None:
            raise ValueError("the hub was not asked")
        with self._seconds.step("plan"):
            plan = make_plan(self._hub, self._host, self._memory, told, authorised, self.daemon())
        self._told = replace(told, answer=None, held=None)  # a large closure's takes megabytes
        return plan

    def plan_if_possible(self, authorised: Authorised) -> Plan | None:
        """The same; None where Nix has to find that out by itself."""
        try:
            return self.plan(authorised)
        except PisteError as error:
            self._must_be_unusual(error)
            return None

    def bring(self, authorised: Authorised, plan: Plan | None, link: Path) -> Fetched:
        """Do it, and make `link` the closure's root against garbage collection."""
        self.check(link)
        received = 0
        with self._seconds.step("fetch"):
            if plan is not None and plan.missing:
                try:
                    received = self._import(authorised, plan)
                except PisteError as error:
                    self._must_be_unusual(error)
                    plan = None
        link.parent.mkdir(parents=True, exist_ok=True)
        if plan is None:
            return self._substitute(authorised, link)
        with self._seconds.step("root"):
            root = StorePath.parse(authorised.store_path)
            if root not in self.daemon().query_valid_paths([root]):
                raise PisteError("path-not-valid", f"{root} was imported, and is not there.")
            self.daemon().add_root(root, link.absolute())
            self._remember(authorised, plan)
        return Fetched(authorised.store_path, len(plan.missing), received, plan.bytes_full)

    def daemon(self) -> Daemon:
        """The connection to the store, which keeps what is there for as long as this lasts."""
        if self._starting is None:
            raise ValueError("the daemon was not started")
        return self._starting.result()

    def _restart(self) -> None:
        self._starting = _Starting(self._host.store, self._settings)

    def _import(self, authorised: Authorised, plan: Plan) -> int:
        received, spoiled = 0, set[int]()
        while plan.missing:
            importing = Importing(
                self._host, self._watcher, authorised, plan, lambda: self._renew(authorised)
            )
            try:
                importing.run(self.daemon())
            except TryAgainError as failure:
                self._watcher.warn(str(failure))
                if failure.delta is not None:
                    spoiled.add(failure.delta.number)
                if len(spoiled) >= _SPOILED:
                    spoiled |= {offer.number for offer in plan.rebuilding.offers}
                self._restart()
                plan = plan_again(plan, spoiled, self.daemon())
                received += importing.received
            else:
                self._speed = importing.speed
                return received + importing.received
        return received

    def _must_be_unusual(self, error: PisteError) -> None:
        if error.ref not in _UNUSUAL:
            raise error
        self._watcher.warn(f"Nix fetches the closure by itself, which takes longer: {error.message}")

    def _substitute(self, authorised: Authorised, link: Path) -> Fetched:
        """The way of stock Nix, which asks for one path after another, and checks the same. It can't renew a
        token: where that has ended meanwhile it begins anew with another, and has what came before."""
        resolution = authorised.resolution
        if resolution.token is None:  # only an answer of before was found to hold
            resolution = renewed(self._hub, self._host, authorised).resolution
        with self._seconds.step("substitute"):
            for _ in range(_TOKENS):
                try:
                    return self._substitute_once(resolution, link)
                except CommandError:
                    if not _is_refused(resolution):
                        raise
                resolution = renewed(self._hub, self._host, authorised).resolution
            return self._substitute_once(resolution, link)

    def _substitute_once(self, resolution: Resolution, link: Path) -> Fetched:
        count = substitute(
            self._host.store,
            resolution.store_path,
            resolution.cache_url,
            resolution.token,
            link.absolute(),
            settings=self._settings,
            on_line=self._watcher.detail,
        )
        return Fetched(resolution.store_path, count, 0, 0)

    def _remember(self, authorised: Authorised, plan: Plan) -> None:
        if (told := self._told) is not None and told.etag:
            self._memory.remember(
                told.question, told.etag, authorised.resolution, plan.manifest, plan.file_sizes, self._speed
            )

    def _renew(self, authorised: Authorised) -> str | None:
        self._watcher.detail("The token of the closure has expired; asking for another.")
        return renewed(self._hub, self._host, authorised).resolution.token


def _is_refused(resolution: Resolution) -> bool:
    """Whether the hub takes the token of a closure no more, which Nix tells like a path that is missing."""
    name = f"{StorePath.parse(resolution.store_path).hash_part}.narinfo"
    with HubConnection(cache_credential(resolution.cache_url, resolution.token)) as cache:
        try:
            cache.request("GET", (name,))
        except AccessError:
            return True
        except PisteError:
            return False
    return False
