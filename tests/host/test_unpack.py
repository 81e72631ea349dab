"""Bytes that are not what was promised never get through whole."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator

import pytest

from piste.host.unpack import unpack
from piste.lib.errors import PisteError
from piste.lib.zstd import zstd
from piste.nix.hashes import sha256_of
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import StorePath

NAR = bytes(range(256)) * 4000
PATH = StorePath.parse("/nix/store/00000000000000000000000000000000-thing")
INFO = PathInfo(PATH, sha256_of(NAR), len(NAR))
WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "gzip": gzip.compress,
}


def in_pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("compression", WRITERS)
def test_every_compression_that_a_cache_may_use_is_read(compression: str) -> None:
    assert b"".join(unpack(in_pieces(WRITERS[compression](NAR)), compression, INFO)) == NAR


@pytest.mark.parametrize("compression", WRITERS)
def test_a_nar_that_is_cut_is_refused(compression: str) -> None:
    data = WRITERS[compression](NAR)
    with pytest.raises(PisteError) as caught:
        list(unpack(in_pieces(data[: len(data) // 2]), compression, INFO))
    assert caught.value.ref == "nar-corrupt"


@pytest.mark.parametrize("compression", WRITERS)
def test_other_content_of_the_same_length_is_refused(compression: str) -> None:
    with pytest.raises(PisteError, match="hash"):
        list(unpack(in_pieces(WRITERS[compression](NAR[::-1])), compression, INFO))


def test_what_grows_beyond_the_promise_is_stopped_at_it() -> None:
    bomb = zstd.compress(bytes(1 << 28))
    got = 0
    with pytest.raises(PisteError, match="longer than"):
        for piece in unpack(in_pieces(bomb), "zstd", INFO):
            got += len(piece)
    assert got <= len(NAR)


def test_noise_is_refused() -> None:
    with pytest.raises(PisteError, match="decompressed"):
        list(unpack(in_pieces(NAR), "zstd", INFO))


def test_a_compression_that_nobody_knows_is_named() -> None:
    with pytest.raises(PisteError, match="lrzip"):
        list(unpack([NAR], "lrzip", INFO))
