"""Archives of a few kilobytes that would keep the hub busy for hours, or fill its memory."""

import io
import random
import tarfile
import time
import tracemalloc
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest

from piste.hub.errors import HubError
from piste.hub.publish.source import Source, SourceIntake

FLAKE = ("source/flake.nix", b"{ outputs = _: { }; }\n")


def archive(entries: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Files with their contents; None stands for a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.GNU_FORMAT) as made:
        for name, content in (FLAKE, *entries):
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "x"
            else:
                entry.size = len(content)
            made.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


def take(folder: Path, data: bytes) -> Source:
    intake = SourceIntake(folder)
    for start in range(0, len(data), 1 << 18):
        intake.feed(data[start : start + (1 << 18)])
    return intake.finish()


def test_names_of_thousands_of_folders_cost_no_time(tmp_path: Path) -> None:
    data = archive((f"source/{'a/' * 2000}{number}", b"") for number in range(100))
    started = time.process_time()
    with pytest.raises(HubError, match="more than 64 parts"):
        take(tmp_path, data)
    assert time.process_time() - started < 1


def test_names_of_links_fill_no_memory(tmp_path: Path) -> None:
    deep = "/".join(["a" * 250] * 15)
    data = archive((f"source/{deep}/{number}", None) for number in range(10_000))
    tracemalloc.start()
    try:
        with pytest.raises(HubError, match="more links"):
            take(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_one_name_in_all_its_spellings_is_read_once(tmp_path: Path) -> None:
    draw = random.Random(1)
    content = b"".join(draw.randbytes(64) + bytes(960) for _ in range(1024))
    spellings = ("".join(letters) for letters in product("rR", "eE", "aA", "dD", "mM", "eE"))
    data = archive((f"source/{name}", content) for name in spellings)
    tracemalloc.start()
    try:
        source = take(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert source.readme is None  # it holds NULs
