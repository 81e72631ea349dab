"""A system of which a few paths change from one release to the next: ten, of 5 MB in all."""

import random
from dataclasses import replace
from typing import Final

from benchmarks._closure import Closure
from tests.running.closures import ATTRIBUTE, Member, member
from tests.running.system import busybox, system

REFERENCE: Final = f"acme/web/*#{ATTRIBUTE}"
STARTED: Final = "started"  # a file below the root of the machine, which the activation makes first
_STAYING: Final = 200
_CHANGING: Final = 10
_BYTES: Final = 5_000_000


def release(number: int) -> Closure:
    """The closure of one release: most of it is every release's."""
    shell = busybox()
    staying = [member(f"staying-{n}", ("staying", n), b"stays\n" * 2000) for n in range(_STAYING)]
    draw = random.Random(number)
    changing = [
        member(f"part-{n}", (number, n), draw.randbytes(_BYTES // _CHANGING)) for n in range(_CHANGING)
    ]
    parts = [*staying, *changing]
    named = "".join(f"# {each.path}\n" for each in parts)
    top = system(f"web-{number}", shell, activation=f"{named}: > /{STARTED}")
    return Closure([shell, *parts, _with(top, parts)], 2)


def _with(top: Member, parts: list[Member]) -> Member:
    return replace(top, references=tuple(sorted([*top.references, *(each.path for each in parts)])))
