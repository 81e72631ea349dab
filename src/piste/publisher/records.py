"""The records that the steps of a publication hand on, and what a step may tell its caller meanwhile."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from piste.nix.flake_ref import AttributePath, format_attribute_path
from piste.nix.store_path import StorePath


@dataclass(frozen=True)
class Wish:
    """What the caller asked for."""

    folder: Path
    organization: str
    project: str
    version: str | None = None  # None: rolling
    rolling_minor: int = 1
    visibility: str | None = None
    attributes: tuple[AttributePath, ...] = ()  # empty: all that this machine can build
    build: bool = True
    allow_source: bool = False
    skip_broken: bool = False
    stage: str | None = None
    finish: bool = True
    labels: tuple[str, ...] = ()
    license: str | None = None
    connections: int = 4


@dataclass(frozen=True)
class EvaluatedOutput:
    """An output of the flake: where it stands, what it is, and what to realise for it to be there."""

    attribute: AttributePath
    store_path: StorePath
    derivations: tuple[str, ...]  # `X.drv!OUTPUT`; empty where it needs no build
    system: str | None

    @property
    def name(self) -> str:
        return format_attribute_path(self.attribute)


@dataclass(frozen=True)
class BrokenOutput:
    """A part of the flake that does not evaluate, and Nix's words about it."""

    attribute: AttributePath
    reason: str

    @property
    def name(self) -> str:
        return format_attribute_path(self.attribute)


@dataclass(frozen=True)
class Evaluation:
    outputs: list[EvaluatedOutput]
    broken: list[BrokenOutput]


@dataclass
class Outcome:
    """What came of a publication; fields that only a finished one has are None while it is staged."""

    flake_name: str
    flake_version: str
    flakeref_at_least: str | None = None
    flakeref_exact: str | None = None
    release_id: str | None = None
    created: bool | None = None  # False where the same content had been published before
    outputs: dict[str, str] = field(default_factory=dict)
    paths_uploaded: int = 0
    bytes_uploaded: int = 0
    paths_present: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Progress(Protocol):
    """Who is told how it goes. Nothing depends on the answers."""

    def step(self, text: str) -> None:
        """A step begins."""

    def line(self, text: str) -> None:
        """A builder or Nix itself says something."""

    def warn(self, text: str) -> None:
        """Something that does not stop the publication, but should be known."""

    def start(self, paths: int, total: int) -> None:
        """An upload of so many paths and bytes begins."""

    def advance(self, paths: int, count: int) -> None:
        """So many more paths and bytes are done; bytes may be taken back when a connection breaks."""

    def stop(self) -> None:
        """The upload has ended, well or not."""
