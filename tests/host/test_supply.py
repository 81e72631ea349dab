"""NARs arrive whole and in order, over connections that break, with tokens that expire, in little room."""

import http.server
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from piste.host import supply
from piste.host.supply import Supply, Wanted
from piste.lib.errors import AccessError, PisteError


@dataclass
class Origin:
    """Files over HTTP, from a server that can be told to misbehave."""

    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None
    cut_after: dict[str, int] = field(default_factory=dict)  # bytes of the first answer
    ranges: bool = True
    asked: list[str] = field(default_factory=list)
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    origin: Origin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        origin, name = self.origin, self.path.removeprefix("/")
        asked_range = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked_range[1]) if asked_range and origin.ranges else 0
        origin.asked.append(f"{name}@{start}")
        if origin.token and self.headers.get("Authorization") != f"Bearer {origin.token}":
            self._head(401, 0)
            return
        data = origin.files.get(name)
        if data is None:
            self._head(404, 0)
            return
        self._head(206 if start else 200, len(data) - start, start, len(data))
        cut = origin.cut_after.pop(name, None)
        self.wfile.write(data[start:] if cut is None else data[start : start + cut])
        if cut is not None:
            self.close_connection = True

    def _head(self, status: int, length: int, start: int = 0, total: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave in the middle are part of the tests."""


@pytest.fixture
def origin() -> Iterator[Origin]:
    made = Origin()
    handler = type("OriginHandler", (Handler,), {"origin": made})
    server = QuietServer(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def fill(origin: Origin, count: int, size: Callable[[int], int]) -> list[Wanted]:
    rng = random.Random(7)
    for number in range(count):
        origin.files[f"{number}.nar"] = rng.randbytes(size(number))
    return [wanted(origin, name) for name in origin.files]


def wanted(origin: Origin, name: str, size: int | None = None) -> Wanted:
    length = len(origin.files.get(name, b"")) if size is None else size
    return Wanted(origin.url + name, length, length, from_cache=True)


def bring(
    wants: list[Wanted], token: str | None = None, renew: Callable[[], str | None] = lambda: None
) -> list[bytes]:
    counted: list[int] = []
    with Supply(wants, token, renew, counted.append) as stock:
        brought = [b"".join(stock.take(place)) for place in range(len(wants))]
    assert sum(counted) >= sum(map(len, brought))
    return brought


def test_many_small_nars_come_in_the_order_that_they_are_taken(origin: Origin) -> None:
    wants = fill(origin, 400, lambda number: 10 + number * 700)
    assert bring(wants) == list(origin.files.values())


def test_a_large_nar_is_passed_on_without_touching_the_disk(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supply, "_LARGE", 1 << 20)
    monkeypatch.setattr(supply, "_HELD", 1 << 18)
    wants = fill(origin, 8, lambda number: 3 << 20 if number % 3 == 0 else 5000)
    assert bring(wants) == list(origin.files.values())


def test_little_room_slows_things_down_and_stops_nothing(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supply, "_SPOOL", 4096)
    monkeypatch.setattr(supply, "_WAITING", 2)
    wants = fill(origin, 40, lambda number: 100_000 if number % 10 == 0 else 3000)
    assert bring(wants) == list(origin.files.values())


@pytest.mark.parametrize("large", [1 << 30, 1])
def test_a_connection_that_breaks_is_gone_on_with_where_it_broke(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(supply, "_LARGE", large)
    wants = fill(origin, 3, lambda _: 900_000)
    origin.cut_after["1.nar"] = 500_000
    assert bring(wants) == list(origin.files.values())
    assert "1.nar@500000" in origin.asked


@pytest.mark.parametrize("large", [1 << 30, 1])
def test_a_server_that_knows_no_ranges_begins_again_and_nothing_comes_twice(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(supply, "_LARGE", large)
    wants = fill(origin, 2, lambda _: 900_000)
    origin.cut_after["0.nar"] = 500_000
    origin.ranges = False
    assert bring(wants) == list(origin.files.values())


def test_a_token_that_has_expired_is_renewed_once_for_all(origin: Origin) -> None:
    wants = fill(origin, 50, lambda _: 1000)
    origin.token = "new"
    renewals: list[int] = []

    def renew() -> str:
        renewals.append(1)
        return "new"

    assert bring(wants, "old", renew) == list(origin.files.values())
    assert len(renewals) == 1


def test_a_new_token_that_is_refused_too_is_an_error_and_no_loop(origin: Origin) -> None:
    wants = fill(origin, 5, lambda _: 1000)
    origin.token = "another"
    with pytest.raises(AccessError):
        bring(wants, "old", lambda: "new")


def test_what_came_before_a_nar_that_is_not_there_can_be_taken(origin: Origin) -> None:
    wants = fill(origin, 5, lambda _: 1000)
    wants.insert(3, wanted(origin, "absent.nar", 1000))
    with Supply(wants, None, lambda: None, lambda _: None) as stock:
        for place in range(3):
            assert b"".join(stock.take(place)) == origin.files[f"{place}.nar"]
        with pytest.raises(PisteError):
            b"".join(stock.take(3))


def test_leaving_in_the_middle_ends_the_downloads(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "_LARGE", 1)
    wants = fill(origin, 1, lambda _: 20 << 20)
    with Supply(wants[:1] * 20, None, lambda: None, lambda _: None) as stock:
        next(stock.take(0))
    assert not any(thread.name == "downloads" for thread in threading.enumerate())
