"""What the stages of a deployment hand to one another, and the words for where it stands.

A deployment moves forward through `State`, one step at a time; each step is in the journal before it is
taken.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from piste.host.deltas import Rebuilding
from piste.wire.manifest import Manifest
from piste.wire.resolution import Resolution
from piste.wire.sources import Sources
from piste.wire.statement import Statement


class Kind(StrEnum):
    """What is activated: each has a profile, and a way to come to life, of its own."""

    NIXOS = "nixos"
    HOME_MANAGER = "home-manager"
    NIX_DARWIN = "nix-darwin"


class Action(StrEnum):
    """What is asked for, in the words of nixos-rebuild."""

    SWITCH = "switch"  # run it now, and from the next boot on
    BOOT = "boot"  # from the next boot on
    TEST = "test"  # run it now, until the next boot
    DRY_ACTIVATE = "dry-activate"  # only tell what would happen


class State(StrEnum):
    """Where a deployment stands. The engine alone moves it."""

    RECEIVED = "received"  # asked for; nothing is known yet
    AUTHORISED = "authorised"  # the hub resolved it, and a trusted key vouches for that
    PLANNED = "planned"  # what has to be fetched is known
    FETCHED = "fetched"  # the closure is in the store, and rooted
    TESTING = "testing"  # the new configuration is being activated
    VERIFYING = "verifying"  # it runs; whether it is well is being looked at
    CONFIRMED = "confirmed"  # it is well; the profile and the boot entry come next
    ROLLING_BACK = "rolling-back"  # what ran before is being activated again
    FINISHED = "finished"  # the end; `Result` says which


class Result(StrEnum):
    """How a deployment ended."""

    COMMITTED = "committed"  # runs, and is what boots
    UNCHANGED = "unchanged"  # ran already
    TESTED = "tested"  # runs until the next boot
    STAGED = "staged"  # runs from the next boot on
    DRY_RUN = "dry-run"
    ROLLED_BACK = "rolled-back"  # failed, and what ran before runs again
    ROLLBACK_FAILED = "rollback-failed"  # failed, and so did the way back
    BLOCKED = "blocked"  # something else must happen first; nothing was changed
    FAILED = "failed"  # failed before anything was changed, or with nothing to go back to


class Facts(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What can be known of a deployment; a step fills in what it learns."""

    kind: Kind | None = None
    action: Action | None = None
    reference: str | None = None
    organization: str | None = None
    project: str | None = None
    version: str | None = None
    sequence: int | None = None  # of the release within its project
    store_path: str | None = None
    previous: str | None = None  # what ran before
    previous_generation: int | None = None  # what the profile pointed to before
    generation: int | None = None
    failing_before: list[str] = []  # units that were failing before anything was touched
    result: Result | None = None
    newly_failed_units: list[str] = []
    reason: str | None = None
    paths_fetched: int | None = None
    bytes_received: int | None = None


class Event(Facts, frozen=True, omit_defaults=True, kw_only=True):
    """One line of the journal: a deployment has come to `state`, and what is known since the line before."""

    deployment: str
    at: int  # microseconds since the epoch
    state: State


class Deployment(Facts, frozen=True, omit_defaults=True, kw_only=True):
    """All that the events of one deployment say, put together; a row of `piste history`."""

    deployment: str
    started_at: int
    state: State
    finished_at: int | None = None


class Authorised(msgspec.Struct, frozen=True):
    """A resolution whose statement a trusted key has signed."""

    resolution: Resolution
    statement: Statement
    key: str  # the name of the key
    exact: bool  # an exact version was asked for

    @property
    def store_path(self) -> str:
        return self.resolution.store_path


class Plan(msgspec.Struct, frozen=True):
    """What a closure consists of, and which of its paths this host lacks. Lists are in import order."""

    manifest: Manifest
    sources: Sources  # of the missing ones at least
    missing: list[int]  # places in the manifest
    bytes_to_fetch: int  # compressed; the NAR's size where the hub does not know
    bytes_full: int  # compressed, of the whole closure
    token: str | None  # of the closure
    file_sizes: Sequence[int]  # compressed, by place; -1 where it is not known
    rebuilding: Rebuilding  # what is made from older paths


class Fetched(msgspec.Struct, frozen=True):
    """A closure that is in the store."""

    store_path: str
    paths_fetched: int
    bytes_received: int
    bytes_full: int


class Outcome(msgspec.Struct, frozen=True):
    """What `piste apply` and `piste rollback` answer."""

    reference: str | None
    version: str | None
    store_path: str | None
    previous: str | None
    generation: int | None
    result: Result
    newly_failed_units: list[str] = []
    paths_fetched: int = 0
    bytes_received: int = 0
    seconds: dict[str, float] = {}
    reason: str | None = None
    warnings: list[str] = []


class Moved(msgspec.Struct, frozen=True):
    """How far a transfer has come."""

    paths: int
    paths_total: int
    bytes: int
    bytes_total: int


class Watcher:
    """What the engine tells while it works; this one does not listen. The commands have one that draws."""

    def step(self, text: str) -> None:
        """A new stage has begun."""

    def detail(self, text: str) -> None:
        """A line of a program that runs."""

    def warn(self, text: str) -> None:
        """Something that a person should know."""

    def progress(self, moved: Moved) -> None:
        """The transfer has moved on."""
