"""Finding hash parts in bytes: all of them, across borders of pieces, and in bounded time."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piste.nix import base32
from piste.nix.reference_scan import ReferenceScanner
from piste.nix.store_path import StorePathError

ALPHABET = base32.ALPHABET.encode()
# Few letters make runs, repetitions and near misses likely.
bodies = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.text("01a", min_size=20, max_size=80).map(str.encode),
        st.sampled_from([b"0" * 32, b"1" * 33, b"0" * 31 + b"1", b"e", b"/nix/store/", b"a" * 100]),
    ),
    max_size=12,
).map(b"".join)
pieces = st.lists(st.integers(1, 90), min_size=1, max_size=20)


def naive(data: bytes) -> set[str]:
    """Every 32 bytes of the alphabet, one place after the other."""
    windows = {data[at : at + 32] for at in range(len(data) - 31)}
    return {window.decode() for window in windows if all(byte in ALPHABET for byte in window)}


def feed(scanner: ReferenceScanner, data: bytes, sizes: list[int]) -> None:
    at = 0
    turn = 0
    while at < len(data):
        scanner.feed(data[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1


@settings(max_examples=300)
@given(bodies, pieces, st.sets(st.text("01a", min_size=32, max_size=32), max_size=5), st.randoms())
def test_known_hash_parts_are_found_exactly_where_they_stand(
    data: bytes, sizes: list[int], others: set[str], rng: random.Random
) -> None:
    there = sorted(naive(data))
    known = others | set(rng.sample(there, min(3, len(there))))
    scanner = ReferenceScanner(known)
    feed(scanner, data, sizes)
    assert scanner.found == known & naive(data)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 100), st.integers(1, 3))
def test_a_dense_text_hides_nothing(seed: int, shift: int, parts: int) -> None:
    rng = random.Random(seed)
    noise = bytes(rng.choices(ALPHABET, k=20_000))
    known = ["".join(rng.choices(base32.ALPHABET, k=32)) for _ in range(50)]
    chosen = known[:parts]
    data = noise[:shift]
    for hash_part in chosen:
        data += hash_part.encode() + noise[: rng.randrange(40)] + hash_part.encode()[:31] + b"!"
    scanner = ReferenceScanner(known)
    feed(scanner, data + noise, [rng.randrange(1, 30_000) for _ in range(5)])
    assert scanner.found == set(chosen)


def test_known_hash_parts_may_be_bytes_or_text_but_must_be_hash_parts() -> None:
    scanner = ReferenceScanner([b"0" * 32, "1" * 32])
    scanner.feed(memoryview(b"x" + b"0" * 32))
    assert scanner.found == {"0" * 32}
    for wrong in (["0" * 31], [b"\xff" * 32], ["e" * 32]):
        with pytest.raises(StorePathError):
            ReferenceScanner(wrong)


ADVERSARIES = {
    "zeros": b"0" * (1 << 20),
    "short period": (b"abcdfgh" * 150_000)[: 1 << 20],
    "random of the alphabet": bytes(random.Random(3).choices(ALPHABET, k=1 << 20)),
    "short runs": (b"0" * 33 + b"e") * ((1 << 20) // 34),
    "hex": random.Random(4).randbytes(1 << 19).hex().encode(),
    "beginnings of a known one": (b"0123456789abcdfghijklmnpqrsvwxy" + b"e") * (1 << 15),
}


@pytest.mark.parametrize("piece", ADVERSARIES.values(), ids=ADVERSARIES.keys())
def test_bytes_chosen_by_an_adversary_take_bounded_time(piece: bytes) -> None:
    rng = random.Random(5)
    known = ["".join(rng.choices(base32.ALPHABET, k=32)) for _ in range(10_000)]
    known.append("0123456789abcdfghijklmnpqrsvwxyz")
    # Sixteen megabytes; in the same measure a gigabyte stays under two minutes even on a machine this busy.
    scanner = ReferenceScanner(known)
    start = time.process_time()
    for _ in range(16):
        scanner.feed(piece)
    assert time.process_time() - start < 1.8
