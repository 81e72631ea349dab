"""The folder of objects: durable, never changed, never outside of itself, bounded pieces."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from piste.hub.storage.base import LocalFile
from piste.hub.storage.local import PIECE, LocalObjects


async def _read(objects: LocalObjects, key: str, start: int = 0, stop: int | None = None) -> list[bytes]:
    return [piece async for piece in objects.stream(key, start=start, stop=stop)]


def test_what_was_put_can_be_read_in_pieces_and_ranges(tmp_path: Path) -> None:
    async def work() -> None:
        objects = LocalObjects(tmp_path)
        data = os.urandom(PIECE * 2 + 1000)
        file = objects.spool / "made"
        file.write_bytes(data)
        assert await objects.put_file("nar/abc.nar.zst", file) is True
        assert not file.exists()
        pieces = await _read(objects, "nar/abc.nar.zst")
        assert [len(piece) for piece in pieces] == [PIECE, PIECE, 1000]
        assert b"".join(pieces) == data
        assert b"".join(await _read(objects, "nar/abc.nar.zst", 10, PIECE + 20)) == data[10 : PIECE + 20]
        assert await _read(objects, "nar/abc.nar.zst", len(data)) == []
        location = await objects.locate("nar/abc.nar.zst")
        assert isinstance(location, LocalFile)
        assert location.size == len(data) == await objects.size("nar/abc.nar.zst")
        assert location.path.read_bytes() == data
        assert await objects.locate("nar/other.nar.zst") is None
        assert await objects.read("nar/other.nar.zst") is None

    asyncio.run(work())


def test_an_object_that_is_there_stays(tmp_path: Path) -> None:
    async def work() -> None:
        objects = LocalObjects(tmp_path)
        assert await objects.put("source/aa.tar.gz", b"first") is True
        assert await objects.put("source/aa.tar.gz", b"second") is False
        assert await objects.read("source/aa.tar.gz") == b"first"
        assert list(objects.spool.iterdir()) == []

    asyncio.run(work())


@pytest.mark.parametrize(
    "key",
    [
        "../x",
        "nar/../x",
        "nar/..",
        "/etc/passwd",
        "nar",
        "nar/",
        "nar/a/b",
        "NAR/x",
        "nar/.x",
        "nar/a\0",
        "spool",
    ],
)
def test_a_key_can_not_leave_the_folder(tmp_path: Path, key: str) -> None:
    async def work() -> None:
        objects = LocalObjects(tmp_path / "objects")
        with pytest.raises(ValueError, match="key"):
            await objects.put(key, b"x")
        with pytest.raises(ValueError, match="key"):
            await objects.read(key)

    asyncio.run(work())


def test_what_was_put_again_a_moment_ago_is_not_collected(tmp_path: Path) -> None:
    async def work() -> None:
        objects = LocalObjects(tmp_path)
        await objects.put("log/aa.zst", b"x")
        location = await objects.locate("log/aa.zst")
        assert isinstance(location, LocalFile)
        os.utime(location.path, (1000, 1000))
        assert await objects.is_older("log/aa.zst", 2000)
        await objects.put("log/aa.zst", b"x")
        assert not await objects.delete_if_older("log/aa.zst", 2000)
        assert await objects.read("log/aa.zst") == b"x"
        os.utime(location.path, (1000, 1000))
        assert await objects.delete_if_older("log/aa.zst", 2000)
        assert await objects.read("log/aa.zst") is None
        assert not await objects.delete_if_older("log/aa.zst", 2000)

    asyncio.run(work())


def test_keys_are_listed_by_kind(tmp_path: Path) -> None:
    async def work() -> None:
        objects = LocalObjects(tmp_path)
        for key in ("nar/bb.nar.zst", "nar/aa.nar.zst", "log/aa.zst"):
            await objects.put(key, b"x")
        assert [key async for key in objects.keys("nar/")] == ["nar/aa.nar.zst", "nar/bb.nar.zst"]
        assert [key async for key in objects.keys("source/")] == []
        await objects.delete("nar/aa.nar.zst")
        await objects.delete("nar/aa.nar.zst")
        assert [key async for key in objects.keys("nar/")] == ["nar/bb.nar.zst"]

    asyncio.run(work())


def test_a_spool_of_a_process_that_has_gone_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    living = LocalObjects(tmp_path)
    (living.spool / "half").write_bytes(b"x")
    gone = tmp_path / "spool" / "gone"
    gone.mkdir()
    (gone / "half").write_bytes(b"x")
    another = LocalObjects(tmp_path)
    assert not gone.exists()
    assert (living.spool / "half").exists()
    assert another.spool != living.spool
    living.close()
    assert not living.spool.exists()


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k none "$1"', "sh", str(tmp_path)],
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("no user namespaces here, so no disk that can be filled")
    code = f"""
import asyncio, errno, os
from pathlib import Path
from piste.hub.storage.local import LocalObjects
async def work():
    objects = LocalObjects(Path({str(tmp_path)!r}))
    try:
        await objects.put("nar/aa.nar.zst", b"x" * 200_000)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        assert await objects.read("nar/aa.nar.zst") is None
        assert list(objects.spool.iterdir()) == []
        os._exit(7)
asyncio.run(work())
"""
    script = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" -c "$3"'
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, code], check=False
    )
    assert ran.returncode == 7
