"""Updates to measure: two releases of a closure on a hub, with all the deltas between them made.

Nothing in here measures anything but the seconds that the hub takes for the deltas.
"""

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks._debian import Update
from benchmarks._place import QuietHub
from piste.host.stored_nar import StoredNar
from piste.lib.zstd import zstd
from tests.hub.process import wait_for
from tests.hub.publishing import Acme
from tests.running.closures import ATTRIBUTE, Member, file_nar, frame, member, new_path

OLD: Final = "1.0.0"
NEW: Final = "1.1.0"
_LEVEL: Final = 3  # of `piste publish`
_WAIT: Final = 600.0
_LINES: Final = [
    b"    if (value_%d > limit) { return handle(value_%d, flags); }" % (n, n) for n in range(400)
]


@dataclass(frozen=True)
class Released:
    """An update on a hub."""

    acme: Acme
    base: str  # the manifest of the older release
    seconds: float  # from the publication of the newer one to the last delta


def release(hub: QuietHub, old: Sequence[Member], new: Sequence[Member]) -> Released:
    """Publish both, and wait for the deltas."""
    acme = Acme(hub)
    _publish(acme, OLD, old)
    base = acme.resolve(f"={OLD}").json()["manifest"]
    _publish(acme, NEW, new)
    started = time.monotonic()
    target = acme.resolve(f"={NEW}").json()["manifest"]
    wait_for(lambda: _all_made(hub, target), _WAIT)
    return Released(acme, base, time.monotonic() - started)


def _publish(acme: Acme, version: str, members: Sequence[Member]) -> None:
    """A release, its NARs compressed as `piste publish` does it."""
    filling = acme.open(version)
    filling.declare(members, {ATTRIBUTE: members[-1]})
    waiting: list[bytes] = []
    for each in members:
        if each.path.base_name not in filling.missing:
            continue
        waiting.append(frame(each.nar_hash, zstd.compress(each.nar, level=_LEVEL)))
        if len(waiting) == 200 or sum(map(len, waiting)) > 8 << 20:
            assert filling.upload(*waiting).status == 200
            waiting = []
    if waiting:
        assert filling.upload(*waiting).status == 200
    filling.source()
    answer = filling.finish()
    assert answer.status == 200, answer.body


def _all_made(hub: QuietHub, target: str) -> bool:
    """As the hub's own rows tell; hosts are told only of what is there."""
    with closing(sqlite3.connect(f"file:{hub.data / 'piste.sqlite'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT size FROM delta WHERE target = ?", (target,)).fetchall()
    return bool(rows) and all(size is not None for (size,) in rows)


def rebuilt(paths: int, mean: int) -> Iterator[list[Member]]:
    """A closure, and the same with another hash for each path; each names what it refers to some times."""
    for build in (1, 2):
        draw = random.Random(7)
        made: list[Member] = []
        for number in range(paths):
            below = draw.sample(made[-60:], min(len(made), draw.randint(1, 6)))
            size = int(min(draw.expovariate(1 / mean), 8 * mean))
            lines = _text(draw, size) if draw.random() < 0.5 else _binary(draw, size)
            own = new_path(f"part-{number}", (build, number))
            for path in [own, *(each.path for each in below)]:
                for _ in range(draw.randint(1, 4)):
                    lines.insert(draw.randrange(len(lines) + 1), f"{path}/bin/something".encode())
            references = tuple(sorted([own, *(each.path for each in below)]))
            made.append(Member(own, file_nar(b"\n".join(lines)), references))
        top = member("system", build, b"", [each.path for each in made])
        yield [*made, top]


def _text(draw: random.Random, size: int) -> list[bytes]:
    return [draw.choice(_LINES) for _ in range(size // len(_LINES[0]))]


def _binary(draw: random.Random, size: int) -> list[bytes]:
    """Half of it can be compressed away."""
    return [draw.randbytes(200) + bytes(200) for _ in range(size // 400)]


def package(name: str, folder: Path) -> Member:
    stored = StoredNar(folder)
    return Member(new_path(name, str(folder)), bytes(stored.read(0, stored.size)), ())


def packages(found: Sequence[Update]) -> Iterator[list[Member]]:
    """All packages in their older versions, below one top; and the same in the newer."""
    yield _together([package(each.package, each.old) for each in found])
    yield _together([package(each.package, each.new) for each in found])


def _together(members: list[Member]) -> list[Member]:
    paths = [each.path for each in members]
    return [*members, member("system", tuple(map(str, paths)), b"", paths)]
