"""nix32 and hashes: every form both ways, and nothing that only looks like one."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix import base32
from piste.nix.base32 import Base32Error
from piste.nix.hashes import SIZES, Algorithm, Hash, HashError, sha256_of

ALGORITHMS: list[Algorithm] = ["md5", "sha1", "sha256", "sha512"]
HASHES = st.one_of(
    *(st.builds(Hash, st.just(a), st.binary(min_size=SIZES[a], max_size=SIZES[a])) for a in ALGORITHMS)
)


def naive_encode(data: bytes) -> str:
    """The rule in its own words: character n, counted from the end, holds bits 5n to 5n+4."""
    bits = [data[i // 8] >> (i % 8) & 1 for i in range(len(data) * 8)]
    bits += [0] * (-len(bits) % 5)
    digits = [sum(bit << i for i, bit in enumerate(bits[at : at + 5])) for at in range(0, len(bits), 5)]
    return "".join(base32.ALPHABET[digit] for digit in reversed(digits))


@given(st.binary(max_size=70))
def test_nix32_follows_the_rule_and_comes_back(data: bytes) -> None:
    text = base32.encode(data)
    assert text == naive_encode(data)
    assert len(text) == base32.encoded_length(len(data))
    assert base32.decode(text) == data


@given(st.text(base32.ALPHABET, max_size=60))
def test_a_nix32_text_is_refused_or_the_only_one_for_its_bytes(text: str) -> None:
    with contextlib.suppress(Base32Error):
        assert base32.encode(base32.decode(text)) == text


def test_known_nix32_texts() -> None:
    # The sha256 of nothing as Nix prints it, and the corners of the alphabet.
    assert sha256_of(b"").base32 == "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
    assert base32.encode(b"") == ""
    assert base32.encode(b"\x1f") == "0z"
    assert base32.encode(b"\xff" * 20) == "z" * 32


@pytest.mark.parametrize("text", ["e", "0e", "0O", "ab!", "0", "zz", "000", "ä0", "7z7"])
def test_what_is_not_nix32_is_refused(text: str) -> None:
    with pytest.raises(Base32Error):
        base32.decode(text)


@given(HASHES)
def test_every_form_of_a_hash_reads_back(hash_: Hash) -> None:
    base64_part = hash_.sri().partition("-")[2]
    for text in (
        hash_.nix32(),
        hash_.sri(),
        f"{hash_.algorithm}:{hash_.hex()}",
        f"{hash_.algorithm}:{base64_part}",
    ):
        assert Hash.parse(text) == hash_
        assert Hash.parse(text, hash_.algorithm) == hash_
    for bare in (hash_.base32, hash_.hex(), base64_part, hash_.hex().upper()):
        assert Hash.parse(bare, hash_.algorithm) == hash_


def test_the_forms_are_those_of_the_specification() -> None:
    hash_ = sha256_of(b"")
    assert str(hash_) == hash_.nix32() == "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
    assert hash_.hex() == hashlib.sha256().hexdigest()
    assert hash_.sri() == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256-",
        "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        "sha3:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7",
        "sha256:emdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        "sha256:zmdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        "sha1:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        "sha256:" + "g" * 64,
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSu!U=",
        "sha256-" + "0" * 52,
        "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73 ",
        " sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
    ],
)
def test_what_is_not_a_hash_is_refused(text: str) -> None:
    with pytest.raises(HashError):
        Hash.parse(text)


def test_another_algorithm_than_the_wanted_is_refused() -> None:
    with pytest.raises(HashError, match="should be sha1"):
        Hash.parse(sha256_of(b"").nix32(), "sha1")
    with pytest.raises(HashError, match="has 32 bytes"):
        Hash("sha256", b"short")
