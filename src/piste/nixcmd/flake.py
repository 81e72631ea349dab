"""`nix flake metadata`, `nix eval`, and what Nix is configured to build."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from piste.lib.errors import PisteError
from piste.lib.process import CommandError
from piste.nixcmd.command import FEATURES, run, version
from piste.nixcmd.store import Store

# What the supported versions say when flake.lock does not fit flake.nix.
_STALE: Final = ("requires lock file changes", "cannot write modified lock file", "--no-update-lock-file")


@dataclass(frozen=True)
class FlakeMetadata:
    """A flake as Nix sees it: a locked address (unless it is dirty), and its source in the store."""

    url: str
    source: str
    description: str | None
    revision: str | None
    last_modified: int | None
    nar_hash: str | None  # of the source, as SRI


class StaleLockError(PisteError):
    """flake.lock is missing or does not fit flake.nix."""


def flake_metadata(store: Store, url: str) -> FlakeMetadata:
    """What Nix knows of a flake, with the lock file as it is; StaleLockError if that does not fit."""
    argv = ["nix", *FEATURES, "flake", "metadata", "--json", "--no-update-lock-file", url]
    try:
        answer = json.loads(run(store, argv).stdout)
    except CommandError as error:
        if any(phrase in error.completed.stderr for phrase in _STALE):
            raise StaleLockError("lock-stale", "flake.lock does not fit flake.nix.") from error
        raise
    locked = answer.get("locked", {})
    return FlakeMetadata(
        url=answer["url"],
        source=answer["path"],
        description=answer.get("description"),
        revision=locked.get("rev"),
        last_modified=locked.get("lastModified"),
        nar_hash=locked.get("narHash"),
    )


def evaluate(store: Store, expression: str, *, impure: bool = False, memory: int | None = None) -> Any:
    """The value of an expression as JSON gives it; CommandError with Nix's words if it has none.

    `memory` is what this process may start with for its heap, in bytes.
    """
    argv = ["nix", *FEATURES, "eval", "--json", "--no-update-lock-file", "--expr", expression]
    if impure:
        argv.append("--impure")
    settings = {"gc-initial-heap-size": str(memory)} if memory else {}
    return json.loads(run(store, argv, settings=settings).stdout)


def buildable_systems(store: Store) -> list[str]:
    """The systems that this machine, or a builder that it knows, can build for; its own first."""
    verb = ["config", "show"] if version() >= (2, 20) else ["show-config"]
    answer = json.loads(run(store, ["nix", *FEATURES, *verb, "--json"]).stdout)
    systems = [_setting(answer, "system", ""), *_setting(answer, "extra-platforms", [])]
    systems += _builders(str(_setting(answer, "builders", "")))
    return [system for system in dict.fromkeys(systems) if system]


def _setting(answer: Mapping[str, Any], name: str, default: Any) -> Any:
    return answer.get(name, {}).get("value", default)


def _builders(text: str) -> list[str]:
    """The systems in Nix's list of machines: entries end at a line end or `;`, the second word counts."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text()
        except OSError:
            return []  # as Nix does: no such file is no builders
    entries = [line.partition("#")[0] for line in text.replace(";", "\n").splitlines()]
    columns = [entry.split() for entry in entries]
    found = [words[1] for words in columns if len(words) > 1 and words[1] != "-"]
    return [system for systems in found for system in systems.split(",")]
