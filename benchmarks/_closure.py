"""A closure of many small paths, as a large system has them, put into a store without building anything."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from piste.host.place import system_type
from piste.nix.hashes import sha256_of
from piste.nix.narinfo import PathInfo
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.store import Store
from tests.running.closures import Member, member
from tests.running.command import Person, check

ATTRIBUTE: Final = f"packages.{system_type()}.default"
_WIDTH: Final = 20  # paths on each level
_SIZE: Final = 107_000  # bytes of a path, in the mean
_LINE: Final = b"a line that comes again and again\n"


@dataclass(frozen=True)
class Closure:
    """Dependencies first; the last one is the top, which reaches all."""

    members: list[Member]
    levels: int

    @property
    def top(self) -> str:
        return str(self.members[-1].path)

    @property
    def nar_size(self) -> int:
        return sum(len(each.nar) for each in self.members)

    def __str__(self) -> str:
        megabytes = self.nar_size / 1e6
        return f"{len(self.members):,} paths on {self.levels} levels, {megabytes:.0f} MB of NAR"


def make_closure(levels: int) -> Closure:
    """`levels` of twenty paths, each with three references to the level below, and one path on top."""
    draw = random.Random(1)
    made: list[Member] = []
    for level in range(levels):
        below = made[-_WIDTH:]
        for place in range(_WIDTH):
            references = [below[(place + step) % _WIDTH].path for step in (0, 1, 7)] if below else []
            made.append(member(f"part-{level}-{place}", (level, place), _content(draw), references))
    top = member("top", "top", b"", [each.path for each in made[-_WIDTH:]])
    return Closure([*made, top], levels)


def _content(draw: random.Random) -> bytes:
    """Of very different sizes, as real paths are; half of it can be compressed away."""
    half = int(min(draw.expovariate(1 / (_SIZE / 2)), 8 * _SIZE))
    return draw.randbytes(half) + _LINE * (half // len(_LINE))


def plant(person: Person, closure: Closure) -> None:
    """Put it into the person's own store, as built there."""
    with Daemon(Store.parse(person.store)) as daemon:
        items = ((_info(each), [each.nar]) for each in closure.members)
        daemon.add_multiple(len(closure.members), items, check_signatures=False)


def _info(each: Member) -> PathInfo:
    return PathInfo(
        path=each.path,
        nar_hash=sha256_of(each.nar),
        nar_size=len(each.nar),
        references=each.references,
        deriver=None,
        signatures=(),
        ca=None,
    )


def write_flake(person: Person, closure: Closure) -> Path:
    """A flake with one output, which is the closure's top and needs no build."""
    folder = person.folder / "flake"
    folder.mkdir()
    (folder / "flake.nix").write_text(
        f"""{{ outputs = _: {{ {ATTRIBUTE} = {{
  type = "derivation"; name = "top"; system = "{system_type()}";
  outPath = builtins.appendContext "{closure.top}" {{ "{closure.top}" = {{ path = true; }}; }};
}}; }}; }}
"""
    )
    for argv in (
        ["git", "init", "-q", "-b", "main"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "One"],
    ):
        check(person.run(*argv, cwd=folder), argv)
    return folder
