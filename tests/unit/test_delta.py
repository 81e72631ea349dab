"""A delta gives the new bytes whatever the two are, in bounded memory, and nothing else without saying so."""

import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piste.lib import delta
from piste.lib.delta import DeltaError, apply_delta, make_delta

MEBIBYTE = 1 << 20


def reading(data: bytes) -> Callable[[int, int], bytes]:
    return lambda start, length: data[start : start + length]


def pieces(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def made(base: bytes, target: bytes) -> bytes:
    return b"".join(make_delta(reading(base), len(base), pieces(target), len(target)))


def applied(base: bytes, patch: bytes, size: int, step: int = 100_000) -> bytes:
    return b"".join(apply_delta(reading(base), len(base), pieces(patch, step), size))


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_made_from_any_others(base: bytes, target: bytes, step: int) -> None:
    assert applied(base, made(base, target), len(target), step) == target


@pytest.mark.parametrize(("old", "new"), [(40, 41), (41, 40), (3, 30), (30, 3), (0, 9), (9, 0)])
def test_large_bytes_are_made_in_windows(old: int, new: int) -> None:
    draw = random.Random(1)
    base = draw.randbytes(old * MEBIBYTE)
    inserted = draw.randbytes(MEBIBYTE)
    target = (base[: 5 * MEBIBYTE] + inserted + base[5 * MEBIBYTE :] + draw.randbytes(new * MEBIBYTE))[
        : new * MEBIBYTE
    ]
    patch = made(base, target)
    assert applied(base, patch, len(target)) == target
    if min(old, new) == 40:
        assert len(patch) < 1.2 * MEBIBYTE  # what was inserted, and hardly anything else
    windows: list[int] = []

    def read(start: int, length: int) -> bytes:
        windows.append(start)
        assert length <= delta.WINDOW
        return base[start : start + length]

    assert all(len(piece) <= 256 * 1024 for piece in apply_delta(read, len(base), pieces(patch), len(target)))
    assert windows == sorted(windows)


def test_no_damage_goes_unsaid_or_makes_anything_longer() -> None:
    draw = random.Random(2)
    base = draw.randbytes(5000)
    target = base[:2000] + draw.randbytes(300) + base[2100:]
    patch = made(base, target)
    for place in range(len(patch)):
        damaged = patch[:place] + bytes([patch[place] ^ 0x55]) + patch[place + 1 :]
        try:
            out = applied(base, damaged, len(target))
        except DeltaError:
            continue
        assert len(out) == len(target)  # the hash of what comes out decides
    for place in range(len(patch)):
        with pytest.raises(DeltaError):
            applied(base, patch[:place], len(target))
    with pytest.raises(DeltaError):
        applied(base, patch + b"x", len(target))
    with pytest.raises(DeltaError):
        applied(base + b"x", patch, len(target))
    with pytest.raises(DeltaError):
        applied(base, patch, len(target) + 1)


def test_a_base_that_became_shorter_is_told() -> None:
    base = random.Random(3).randbytes(5000)
    patch = made(base, base + b"x")
    with pytest.raises(DeltaError, match="shorter"):
        b"".join(apply_delta(reading(base[:-9]), len(base), [patch], len(base) + 1))


@pytest.mark.parametrize(("said", "word"), [(99, "more"), (101, "fewer")])
def test_bytes_that_are_not_as_many_as_was_said_make_no_delta(said: int, word: str) -> None:
    with pytest.raises(DeltaError, match=word):
        list(make_delta(reading(b""), 0, [b"x" * 100], said))
