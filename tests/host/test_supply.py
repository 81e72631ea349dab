"""NARs arrive whole and in order, over connections that break, with tokens that expire, in little room."""

import contextlib
import http.server
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from piste.host import bundles, spool, supply
from piste.host.bundles import Item, parts_of
from piste.host.spool import Spool
from piste.host.supply import Supply
from piste.hub.cache.bundles import parse_places
from piste.lib.errors import AccessError, PisteError, UnreachableError
from piste.lib.retry import Backoff


@dataclass
class Origin:
    """Files over HTTP, one by one or many in one answer, from a server that can be told to misbehave."""

    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None
    token_lasts: int = 1 << 30  # requests
    cut_after: dict[str, int] = field(default_factory=dict)  # bytes of the first answer
    ranges: bool = True
    bundles: bool = True
    forbidden: set[str] = field(default_factory=set)  # whatever the token
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    origin: Origin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        origin, name = self.origin, self.path.removeprefix("/")
        asked_range = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked_range[1]) if asked_range and origin.ranges else 0
        origin.asked.append(f"{name}@{start}")
        if name in origin.forbidden or not self._allowed():
            self._head(401, 0)
            return
        data = self._data(name)
        if data is None:
            self._head(404, 0)
            return
        end = int(asked_range[2]) + 1 if asked_range and origin.ranges and asked_range[2] else len(data)
        ranged = asked_range is not None and origin.ranges
        self._head(206 if ranged else 200, end - start, start, len(data))
        cut = origin.cut_after.pop(name.partition("=")[0], None)
        part = data[start:end] if cut is None else data[start : start + cut]
        origin.sent += len(part)
        self.wfile.write(part)
        if cut is not None:
            self.close_connection = True

    def _data(self, name: str) -> bytes | None:
        if not name.startswith("nars?"):
            return self.origin.files.get(name)
        if not self.origin.bundles:
            return None
        places = parse_places(name.partition("=")[2])
        return b"".join(self.origin.files[f"{place}.nar"] for place in places)

    def _allowed(self) -> bool:
        origin = self.origin
        if origin.token is None:
            return True
        if self.headers.get("Authorization") != f"Bearer {origin.token}":
            return False
        origin.token_lasts -= 1
        if origin.token_lasts < 0:
            origin.token, origin.token_lasts = f"after {origin.token}", 40
            return False
        return True

    def _head(self, status: int, length: int, start: int = 0, total: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{total}")
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


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "_BACKOFF", Backoff(attempts=4, first=0.01))


def fill(origin: Origin, count: int, size: Callable[[int], int], *, together: bool = True) -> list[Item]:
    rng = random.Random(7)
    for number in range(count):
        origin.files[f"{number}.nar"] = rng.randbytes(size(number))
    return [item(origin, number, together=together) for number in range(count)]


def item(origin: Origin, number: int, size: int | None = None, *, together: bool = True) -> Item:
    name = f"{number}.nar"
    length = len(origin.files.get(name, b"")) if size is None else size
    return Item(number, origin.url + name, length, length, True, f"key-{number}", together=together)


class Bringing:
    """A supply for a test, with what it needs."""

    def __init__(
        self,
        origin: Origin,
        items: list[Item],
        folder: Path | None = None,
        token: str | None = None,
        renew: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.items = [part for each in items for part in parts_of(each)]
        self.counted: list[int] = []
        self.spool = Spool(folder)

        def bundle(places: list[int]) -> str:
            return origin.url + "nars" + bundles.address("", places).partition("nars")[2]

        self.supply = Supply(self.items, self.spool, bundle, token, renew, self.counted.append)
        self._stack = ExitStack()

    def __enter__(self) -> Supply:
        self._stack.enter_context(self.spool)
        return self._stack.enter_context(self.supply)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def bring(origin: Origin, items: list[Item], folder: Path | None = None, **more: object) -> list[bytes]:
    made = Bringing(origin, items, folder, **more)  # type: ignore[arg-type]
    brought = {each.place: b"" for each in items}
    with made as stock:
        for number, part in enumerate(made.items):
            brought[part.place] += b"".join(stock.take(number))
        made.spool.keep = False
    return list(brought.values())


@pytest.mark.parametrize("together", [True, False])
def test_many_small_nars_come_in_the_order_that_they_are_taken(origin: Origin, together: bool) -> None:
    items = fill(origin, 400, lambda number: 10 + number * 700, together=together)
    assert bring(origin, items) == list(origin.files.values())
    assert len(origin.asked) < 100 if together else len(origin.asked) == 400


@pytest.mark.parametrize("ranges", [True, False])
def test_a_large_nar_comes_in_parts(origin: Origin, monkeypatch: pytest.MonkeyPatch, ranges: bool) -> None:
    monkeypatch.setattr(bundles, "_WHOLE", 1 << 20)
    monkeypatch.setattr(bundles, "_PART", 700_000)
    origin.ranges = ranges
    items = fill(origin, 8, lambda number: 3 << 20 if number % 3 == 0 else 5000)
    assert bring(origin, items) == list(origin.files.values())
    assert ("3.nar@1400000" in origin.asked) == ranges


@pytest.mark.parametrize("together", [True, False])
def test_little_room_slows_things_down_and_stops_nothing(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    monkeypatch.setattr(supply, "ROOM", 4096)
    monkeypatch.setattr(supply, "_WAITING", 2)
    monkeypatch.setattr(supply, "_LAG", 0)
    monkeypatch.setattr(bundles, "_BUNDLE", 7000)
    monkeypatch.setattr(bundles, "_WHOLE", 50_000)
    monkeypatch.setattr(bundles, "_PART", 30_000)
    items = fill(origin, 40, lambda number: 100_000 if number % 10 == 0 else 3000, together=together)
    assert bring(origin, items) == list(origin.files.values())


def test_a_connection_that_breaks_is_gone_on_with_where_it_broke(origin: Origin) -> None:
    items = fill(origin, 3, lambda _: 900_000)
    origin.cut_after["1.nar"] = 500_000
    assert bring(origin, items) == list(origin.files.values())
    assert "1.nar@500000" in origin.asked


def test_a_bundle_that_breaks_off_within_a_nar_goes_on_with_the_rest_of_that_nar(origin: Origin) -> None:
    items = fill(origin, 5, lambda _: 100_000)
    origin.cut_after["nars?places"] = 250_000
    assert bring(origin, items) == list(origin.files.values())
    assert origin.asked == ["nars?places=0-4@0", "2.nar@50000", "nars?places=3-4@0"]


def test_a_hub_that_answers_no_bundles_is_asked_for_one_nar_after_the_other(origin: Origin) -> None:
    origin.bundles = False
    items = fill(origin, 50, lambda number: 1000 + number)
    assert bring(origin, items) == list(origin.files.values())


def test_a_server_that_knows_no_ranges_begins_again_and_nothing_comes_twice(origin: Origin) -> None:
    items = fill(origin, 2, lambda _: 900_000)
    origin.cut_after["0.nar"] = 500_000
    origin.ranges = False
    assert bring(origin, items) == list(origin.files.values())


def test_a_nar_of_unknown_size_comes_whole(origin: Origin) -> None:
    known = fill(origin, 2, lambda _: 300_000)
    origin.cut_after["0.nar"] = 100_000
    items = [Item(each.place, each.url, None, 500_000, True) for each in known]
    assert bring(origin, items) == list(origin.files.values())


def test_a_token_that_has_expired_is_renewed_once_for_all(origin: Origin) -> None:
    items = fill(origin, 50, lambda _: 1000, together=False)
    origin.token = "new"
    renewals: list[int] = []

    def renew() -> str:
        renewals.append(1)
        return "new"

    assert bring(origin, items, token="old", renew=renew) == list(origin.files.values())
    assert len(renewals) == 1


def test_a_token_may_expire_again_and_again(origin: Origin) -> None:
    # More than there are connections, so that each token is taken before it is refused.
    items = fill(origin, 200, lambda _: 1000, together=False)
    origin.token, origin.token_lasts = "one", 40
    renewals: list[str] = []

    def renew() -> str:
        renewals.append(str(origin.token))
        return renewals[-1]

    assert bring(origin, items, token="one", renew=renew) == list(origin.files.values())
    assert len(renewals) > 3


def test_a_new_token_that_is_refused_too_is_an_error_and_no_loop(origin: Origin) -> None:
    items = fill(origin, 5, lambda _: 1000)
    origin.token = "another"
    with pytest.raises(AccessError):
        bring(origin, items, token="old", renew=lambda: "new")


def test_one_nar_that_is_refused_with_every_token_is_an_error_while_others_still_come(origin: Origin) -> None:
    items = fill(origin, 300, lambda _: 100_000, together=False)
    origin.forbidden.add("299.nar")
    renewals: list[str] = []

    def renew() -> str:
        renewals.append(f"token {len(renewals)}")
        return renewals[-1]

    with pytest.raises(AccessError):
        bring(origin, [items[-1], *items[:-1]], token="old", renew=renew)
    assert len(renewals) <= 3


def test_a_hub_that_is_away_when_the_token_expires_is_waited_for(origin: Origin) -> None:
    items = fill(origin, 50, lambda _: 1000, together=False)
    origin.token = "new"
    attempts: list[int] = []

    def renew() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise UnreachableError("hub-unreachable", "The hub can't be reached.")
        return "new"

    assert bring(origin, items, token="old", renew=renew) == list(origin.files.values())


def test_whoever_may_not_have_another_token_is_told_so_once(origin: Origin) -> None:
    items = fill(origin, 200, lambda _: 1000, together=False)
    origin.token = "new"
    attempts: list[int] = []

    def renew() -> str:
        attempts.append(1)
        raise AccessError("credential-unknown", "The hub does not know this token.")

    with pytest.raises(AccessError, match="does not know"):
        bring(origin, items, token="old", renew=renew)
    assert len(attempts) == 1


def test_what_came_before_a_nar_that_is_not_there_can_be_taken(origin: Origin) -> None:
    items = fill(origin, 5, lambda _: 1000)
    items.insert(3, item(origin, 99, 1000, together=False))
    with Bringing(origin, items) as stock:
        for place in range(3):
            assert b"".join(stock.take(place)) == origin.files[f"{place}.nar"]
        with pytest.raises(PisteError):
            b"".join(stock.take(3))


def test_leaving_in_the_middle_ends_the_downloads(origin: Origin) -> None:
    items = fill(origin, 4, lambda _: 20 << 20)
    with Bringing(origin, items) as stock:
        next(stock.take(0))
    assert not any(thread.name == "downloads" for thread in threading.enumerate())


# What is on the disk


def test_what_an_earlier_fetch_left_is_not_asked_for_again(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "_WHOLE", 1 << 20)
    monkeypatch.setattr(bundles, "_PART", 700_000)
    items = fill(origin, 30, lambda number: 2_500_000 if number == 20 else 70_000)
    total = sum(map(len, origin.files.values()))
    # The answers after the first break off, as they do when the process is killed.
    origin.cut_after |= {"20.nar": 300_000, "nars?places": 1_000_000}
    monkeypatch.setattr(supply, "_BACKOFF", Backoff(attempts=1))
    with (broken := Bringing(origin, items, tmp_path)) as stock, pytest.raises(PisteError):
        for number in range(30):
            b"".join(stock.take(number))
    with (again := Bringing(origin, items, tmp_path)) as stock:
        brought = b"".join(b"".join(stock.take(number)) for number in range(len(again.items)))
        again.spool.keep = False
    assert brought == b"".join(origin.files.values())
    assert sum(broken.counted) > 1_000_000
    # What is asked for again is at most a few kilobytes that were not worth a request of their own.
    assert total <= sum(broken.counted) + sum(again.counted) < total * 1.01
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_damaged_and_foreign_files_in_the_spool_are_removed(origin: Origin, tmp_path: Path) -> None:
    items = fill(origin, 3, lambda _: 1000)
    (tmp_path / "1.part").write_bytes(b"rubbish")
    (tmp_path / "2.part").write_bytes(b"piste-spool-1 [[]]\nrest")
    (tmp_path / "3.part").symlink_to("/etc/hostname")
    assert bring(origin, items, tmp_path) == list(origin.files.values())
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_two_fetches_at_once_do_not_get_into_each_others_way(origin: Origin, tmp_path: Path) -> None:
    items = fill(origin, 20, lambda _: 50_000)
    with Bringing(origin, items, tmp_path) as stock:
        next(stock.take(0))
        assert bring(origin, items, tmp_path) == list(origin.files.values())
        assert b"".join(stock.take(1)) == origin.files["1.nar"]


def test_a_spool_that_belongs_to_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    with Spool(tmp_path / "link") as made:
        file = made.create([Item(0, "", 3, 3, True, "key")])
        file.write(b"abc")
        assert b"".join(file.pieces(0, 3)) == b"abc"
    assert not list((tmp_path / "elsewhere").iterdir())


def open_below(folder: Path) -> list[Path]:
    """The files below it that this process holds open, also those that are removed."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one by which they are listed
            found.append(each.readlink())
    return [path for path in found if path.is_relative_to(folder)]


@pytest.mark.parametrize("plenty", [True, False])
def test_of_a_nar_larger_than_the_spool_what_was_read_stays_while_the_disk_has_plenty_of_space(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plenty: bool
) -> None:
    for module in (supply, spool):
        monkeypatch.setattr(module, "ROOM", 1 << 20)
    monkeypatch.setattr(spool, "_PLENTY", 0 if plenty else 1 << 60)
    monkeypatch.setattr(bundles, "_WHOLE", 300_000)
    monkeypatch.setattr(bundles, "_PART", 200_000)
    items = fill(origin, 1, lambda _: 10_000_000, together=False)
    made, most = Bringing(origin, items, tmp_path), 0
    with made as stock:
        for number in range(len(made.items) - 1):
            b"".join(stock.take(number))
            most = max(most, sum(path.stat().st_size for path in tmp_path.glob("*.part")))
        # Not as many are open as there are.
        assert len(open_below(tmp_path)) < 10
    assert (most > 9_000_000) == plenty
    assert plenty or most <= (1 << 20) + 2 * 200_000
    before = origin.sent
    assert bring(origin, items, tmp_path) == list(origin.files.values())
    assert origin.sent - before < (1_000_000 if plenty else 10_000_001)


def test_what_other_releases_left_stays_within_the_room_of_the_spool(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "ROOM", 2_000_000)
    items = fill(origin, 8, lambda _: 600_000, together=False)
    with Bringing(origin, items, tmp_path) as stock:
        for number in range(8):
            b"".join(stock.take(number))
    there = len(list(tmp_path.glob("*.part")))
    assert there >= 6
    with Bringing(origin, items[:1], tmp_path) as stock:
        b"".join(stock.take(0))
        assert len(list(tmp_path.glob("*.part"))) <= 1 + 3


def test_two_paths_with_one_large_nar_both_get_it_from_what_was_left(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "_WHOLE", 300_000)
    monkeypatch.setattr(bundles, "_PART", 200_000)
    monkeypatch.setattr(supply, "_LAG", 0)
    (one,) = fill(origin, 1, lambda _: 1_000_000, together=False)
    with Bringing(origin, [one], tmp_path) as stock:
        for number in range(4):
            b"".join(stock.take(number))
    twice = [one, replace(one, place=1)]
    assert bring(origin, twice, tmp_path) == [origin.files["0.nar"]] * 2


def test_the_spool_stays_within_its_room(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (supply, spool):
        monkeypatch.setattr(module, "ROOM", 2 << 20)
    monkeypatch.setattr(supply, "_LAG", 0)
    items = fill(origin, 40, lambda _: 300_000, together=False)
    made, most = Bringing(origin, items, tmp_path), 0
    with made as stock:
        for number, each in enumerate(items):
            assert b"".join(stock.take(number)) == origin.files[f"{each.place}.nar"]
            most = max(most, sum(path.stat().st_size for path in tmp_path.glob("*.part")))
    assert most <= (2 << 20) + 2 * 300_000
