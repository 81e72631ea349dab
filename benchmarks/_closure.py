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
_LINE: Final = b"a line that comes again and again\n"


@dataclass(frozen=True)
class Shape:
    """So many paths below the top, on so many levels (one is flat), of so many bytes in the mean."""

    paths: int
    levels: int
    size: int = 107_000

    def __str__(self) -> str:
        size = f"{self.size / 1e6:.0f} MB" if self.size >= 1e6 else f"{self.size / 1000:.0f} kB"
        return f"{self.paths:,} paths of {size}, {f'{self.levels} levels' if self.levels > 1 else 'flat'}"


QUICK: Final = Shape(200, 10)
DEEP: Final = Shape(1_000, 50)  # with its top the 1,001 paths and 108 MB that most figures are of
SMALL: Final = Shape(200, 40, 20_000)  # a push of 201 small paths
WIDE: Final = Shape(5_000, 40, 22_000)
LARGE: Final = Shape(40, 4, 10_000_000)  # few paths, all of them large
SHAPES: Final = (
    *(Shape(paths, levels, WIDE.size) for paths in (200, 1_000, 5_000) for levels in (1, 40)),
    LARGE,
)


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
        levels = f"{self.levels} levels" if self.levels > 1 else "one level"
        return f"{len(self.members):,} paths on {levels}, {megabytes:.0f} MB of NAR"


def make_closure(shape: Shape, seed: int = 1) -> Closure:
    """Every path has three references to the level below, and the top, one path more, reaches all.
    Another seed makes other paths."""
    draw = random.Random(seed)
    width = shape.paths // shape.levels
    made: list[Member] = []
    for level in range(shape.levels):
        below = made[-width:]
        for place in range(width):
            references = [below[(place + step) % width].path for step in (0, 1, 7)] if below else []
            content = _content(draw, shape.size)
            made.append(member(f"part-{level}-{place}", (seed, level, place), content, references))
    top = member("top", (seed, "top"), b"", [each.path for each in made[-width:]])
    return Closure([*made, top], shape.levels)


def _content(draw: random.Random, size: int) -> bytes:
    """Of very different sizes, as real paths are; half of it can be compressed away."""
    half = int(min(draw.expovariate(1 / (size / 2)), 8 * size))
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


def write_flake(person: Person, closure: Closure, attribute: str = ATTRIBUTE) -> Path:
    """A flake with one output, which is the closure's top and needs no build."""
    folder = person.folder / "flake"
    folder.mkdir()
    (folder / "flake.nix").write_text(
        f"""{{ outputs = _: {{ {attribute} = {{
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
