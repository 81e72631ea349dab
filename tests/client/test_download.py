"""Downloads that break off, lie about their length, lead elsewhere, or fill a disk."""

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from piste.client.download import BrokenTransferError, Downloader, Failure
from piste.lib.errors import PisteError
from tests.client.server import Behaviour, answer, hang_up, serving
from tests.identities.openid import Certificate
from tests.running.cutting import cut_line

DATA = bytes(range(256)) * 4096  # 1 MiB
TOKEN = {"Authorization": "Bearer secret"}


@contextmanager
def downloader() -> Iterator[Downloader]:
    made = Downloader()
    try:
        yield made
    finally:
        made.close()


def fetch(behaviour: Behaviour, *, start: int = 0, size: int | None = len(DATA), part: bool = False) -> bytes:
    found = bytearray()
    with serving(behaviour) as server, downloader() as one:
        one.receive(server.url + "/x", found.extend, headers=TOKEN, start=start, size=size, part=part)
    return bytes(found)


def ranged(handler: BaseHTTPRequestHandler, number: int) -> None:
    """Serve the part of DATA that is asked for."""
    first, _, last = handler.headers["Range"].removeprefix("bytes=").partition("-")
    start, end = int(first), int(last or len(DATA) - 1) + 1
    answer(handler, 206, DATA[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(DATA)}")


def test_a_whole_file_comes_and_its_connection_is_used_again() -> None:
    clients: set[object] = set()

    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        clients.add(handler.client_address)
        answer(handler, 200, DATA)

    found = bytearray()
    with serving(behaviour) as server, downloader() as one:
        for _ in range(3):
            one.receive(server.url, found.extend, headers={}, size=len(DATA))
    assert bytes(found) == DATA * 3
    assert len(clients) == 1


def test_what_is_there_already_comes_in_large_pieces_over_tls_too(certificate: Certificate) -> None:
    sizes: list[int] = []

    def write(piece: bytes) -> None:
        sizes.append(len(piece))
        time.sleep(0.05)  # meanwhile all of the rest arrives

    body = DATA[: 512 << 10]
    with (
        serving(lambda handler, number: answer(handler, 200, body), certificate) as server,
        downloader() as one,
    ):
        one.receive(server.url, write, headers={}, size=len(body))
    assert sum(sizes) == len(body)
    assert len(sizes) < 16, "each record of 16 kB came by itself"


def test_what_comes_slowly_over_tls_does_not_wait_for_a_large_piece(certificate: Certificate) -> None:
    sizes: list[int] = []
    body = DATA[: 320 << 10]
    # A record takes 40 ms, and some of the next one is always there.
    with (
        serving(lambda handler, number: answer(handler, 200, body), certificate) as server,
        cut_line(server.server_address[1], 400_000) as line,
        downloader() as one,
    ):
        url = line.url.replace("http:", "https:")
        one.receive(url, lambda piece: sizes.append(len(piece)), headers={}, size=len(body))
    assert sum(sizes) == len(body)
    assert max(sizes) <= 48 << 10


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew() -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 200, b"abc")
        handler.close_connection = True

    found = bytearray()
    with serving(behaviour) as server, downloader() as one:
        for _ in range(3):
            one.receive(server.url, found.extend, headers={}, size=3)
    assert bytes(found) == b"abcabcabc"


def test_the_rest_and_a_part_of_a_file_can_be_asked_for() -> None:
    assert fetch(ranged, start=1000, size=len(DATA) - 1000) == DATA[1000:]
    assert fetch(ranged, start=1000, size=500, part=True) == DATA[1000:1500]
    assert fetch(ranged, start=0, size=500, part=True) == DATA[:500]


def test_a_server_without_ranges_sends_all_of_it_and_what_was_asked_for_is_taken() -> None:
    def whole(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 200, DATA)

    assert fetch(whole, start=1000, size=len(DATA) - 1000) == DATA[1000:]
    assert fetch(whole, start=1000, size=500, part=True) == DATA[1000:1500]


def test_another_range_than_the_one_that_was_asked_for_is_not_taken() -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        answer(handler, 206, DATA[5:], Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")

    with pytest.raises(BrokenTransferError):
        fetch(behaviour, start=1000, size=len(DATA) - 1000)


@pytest.mark.parametrize("by_tls", [False, True])
@pytest.mark.parametrize("size", [len(DATA), None])
def test_what_breaks_off_is_no_success_and_what_came_was_given(
    size: int | None, by_tls: bool, certificate: Certificate
) -> None:
    def behaviour(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:300_000])
        handler.wfile.flush()
        hang_up(handler)

    found = bytearray()
    with (
        serving(behaviour, certificate if by_tls else None) as server,
        downloader() as one,
        pytest.raises(Failure),
    ):
        one.receive(server.url, found.extend, headers={}, size=size)
    assert bytes(found) == DATA[:300_000]


def test_more_bytes_than_promised_are_refused() -> None:
    with pytest.raises(PisteError) as caught:
        fetch(lambda handler, number: answer(handler, 200, DATA), size=len(DATA) - 1)
    assert caught.value.ref == "transfer-mismatch"


def test_fewer_bytes_than_promised_are_no_success() -> None:
    with pytest.raises(BrokenTransferError):
        fetch(lambda handler, number: answer(handler, 200, DATA[:10]))


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_is_an_error_for_people(status: int) -> None:
    body = b'{"error":{"ref":"not-found","message":"No."}}'
    with pytest.raises(PisteError) as caught:
        fetch(lambda handler, number: answer(handler, status, body))
    assert caught.value.ref == "not-found"


def test_a_server_that_can_not_answer_now_may_be_asked_again() -> None:
    with pytest.raises(BrokenTransferError):
        fetch(lambda handler, number: answer(handler, 503, b"busy"))


def test_a_redirect_is_followed_and_the_token_stays_behind() -> None:
    with serving(lambda handler, number: answer(handler, 200, DATA)) as store:
        target = f"{store.url}/signed?x=1"
        found = fetch(lambda handler, number: answer(handler, 307, b"", Location=target))
        assert found == DATA
        (_, path, headers) = store.seen[0]
        assert path == "/signed?x=1"
        assert "Authorization" not in headers


def test_a_redirect_that_leads_in_a_circle_is_an_error() -> None:
    with pytest.raises(PisteError) as caught:
        fetch(lambda handler, number: answer(handler, 302, b"", Location="/x"))
    assert caught.value.ref == "bad-answer"


def test_a_full_disk_is_not_taken_for_a_broken_network() -> None:
    def full(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        serving(lambda handler, number: answer(handler, 200, DATA)) as server,
        downloader() as one,
        pytest.raises(OSError) as caught,
    ):
        one.receive(server.url, full, headers={}, size=len(DATA))
    assert not isinstance(caught.value, Failure)


def test_a_download_that_is_given_up_ends_at_once() -> None:
    gone = threading.Event()

    def stalling(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"abc")
        gone.wait(60)

    def give_up(data: bytes) -> None:
        threading.Thread(target=one.abort).start()

    with serving(stalling) as server, downloader() as one:
        began = time.monotonic()
        with pytest.raises(Failure):
            one.receive(server.url, give_up, headers={}, size=1000)
        assert time.monotonic() - began < 10
        gone.set()
