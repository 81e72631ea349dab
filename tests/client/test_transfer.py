"""Transfers that break off, stall, lie about their length, or fill a disk."""

import asyncio
import errno
import io
from http.server import BaseHTTPRequestHandler

import pytest

from piste.client.transfer import FileConsumer, download, fetch_text, open_session
from piste.lib.errors import PisteError, UnreachableError
from piste.lib.retry import Backoff
from tests.client.server import Misbehaving, answer, hang_up, serving

DATA = bytes(range(256)) * 4096  # 1 MiB
QUICK = Backoff(attempts=3, first=0.001)


def fetch(server: Misbehaving, size: int | None = len(DATA)) -> bytes:
    async def run() -> bytes:
        buffer = io.BytesIO()
        async with open_session(secure=False) as session:
            await download(session, server.url + "/x", FileConsumer(buffer), size=size, backoff=QUICK)
        return buffer.getvalue()

    return asyncio.run(run())


def part(handler: BaseHTTPRequestHandler, *, cut: int, ranges: bool = True) -> None:
    """Serve DATA from where it is asked for, but hang up after `cut` bytes."""
    asked = handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and ranges else 0
    rest = DATA[start:]
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
    handler.send_header("ETag", '"one"')
    handler.send_header("Content-Length", str(len(rest)))
    handler.end_headers()
    handler.wfile.write(rest[:cut])
    if cut < len(rest):
        handler.wfile.flush()
        hang_up(handler)


def test_a_download_that_breaks_off_goes_on_where_it_was() -> None:
    with serving(lambda handler, number: part(handler, cut=300_000)) as server:
        assert fetch(server) == DATA
    asked = [headers.get("Range") for _, _, headers in server.seen]
    assert asked[0] is None and all(asked[1:])
    assert len(server.seen) >= 4  # more breaks than attempts: progress starts their count anew
    assert server.seen[1][2]["If-Range"] == '"one"'


def test_a_server_without_ranges_makes_it_begin_anew() -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        part(handler, cut=300_000 if number == 1 else len(DATA), ranges=False)

    with serving(behaviour) as server:
        assert fetch(server) == DATA


def test_more_bytes_than_promised_are_refused() -> None:
    with (
        serving(lambda handler, number: answer(handler, 200, DATA)) as server,
        pytest.raises(PisteError) as caught,
    ):
        fetch(server, size=len(DATA) - 1)
    assert caught.value.ref == "transfer-mismatch"


def test_fewer_bytes_than_promised_are_no_success() -> None:
    with (
        serving(lambda handler, number: answer(handler, 200, DATA[:10])) as server,
        pytest.raises(UnreachableError),
    ):
        fetch(server)


@pytest.mark.parametrize("status", [401, 404])
def test_a_refused_download_is_not_tried_again(status: int) -> None:
    body = b'{"error":{"ref":"not-found","message":"No."}}'
    with (
        serving(lambda handler, number: answer(handler, status, body)) as server,
        pytest.raises(PisteError) as caught,
    ):
        fetch(server)
    assert (caught.value.ref, len(server.seen)) == ("not-found", 1)


def test_a_full_disk_is_not_taken_for_a_broken_network() -> None:
    class Full:
        async def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        async def restart(self) -> None:
            return

    async def run(server: Misbehaving) -> None:
        async with open_session(secure=False) as session:
            await download(session, server.url, Full(), backoff=QUICK)

    with (
        serving(lambda handler, number: answer(handler, 200, DATA)) as server,
        pytest.raises(OSError) as caught,
    ):
        asyncio.run(run(server))
    assert caught.value.errno == errno.ENOSPC
    assert len(server.seen) == 1


def test_a_narinfo_that_is_not_there_is_none() -> None:
    async def run(server: Misbehaving) -> list[str | None]:
        async with open_session(secure=False) as session:
            return [await fetch_text(session, f"{server.url}/{name}") for name in ("a", "b")]

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 200 if handler.path == "/a" else 404, b"text")

    with serving(behaviour) as server:
        assert asyncio.run(run(server)) == ["text", None]


def test_a_narinfo_that_arrives_in_pieces_is_read_to_its_end_and_a_longer_one_is_none() -> None:
    texts = {"/long": b"a" * 900_000, "/too-long": b"a" * 3_000_000}

    async def run(server: Misbehaving) -> list[str | None]:
        async with open_session(secure=False) as session:
            return [await fetch_text(session, server.url + name) for name in texts]

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 200, texts[handler.path])

    with serving(behaviour) as server:
        assert asyncio.run(run(server)) == ["a" * 900_000, None]
