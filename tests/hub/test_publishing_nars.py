"""What is uploaded as a NAR is verified before it counts, and leaves nothing behind when it is not what was
declared."""

import os
import socket
from urllib.parse import urlsplit

import pytest

from piste.lib.zstd import zstd
from piste.nix.hashes import sha256_of
from piste.nix.nar import NarWriter, token
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, Filling, chain, stored_files
from tests.running.closures import Member, file_nar, frame, member, new_path


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def open_with(acme: Acme, *closure: Member) -> Filling:
    filling = acme.open()
    filling.declare(closure, {"x": closure[-1]})
    return filling


def assert_refused(filling: Filling, body: bytes, ref: str) -> None:
    hub = filling.acme.hub
    before = stored_files(hub, "nar")
    answer = filling.upload(body)
    assert (answer.status, answer.ref) == (422, ref), answer.body
    assert stored_files(hub, "spool") == []
    assert stored_files(hub, "nar") == before


def test_many_nars_go_in_one_request(acme: Acme) -> None:
    closure = chain("many", 50)
    filling = open_with(acme, *closure)
    answer = filling.upload(*(each.frame for each in closure)).json()
    assert answer["accepted"] == 50
    assert answer["nar_bytes"] == sum(len(each.nar) for each in closure)


def test_a_nar_may_come_as_several_frames_and_is_kept_as_it_came(acme: Acme) -> None:
    one = member("app", "frames", os.urandom(300_000))
    packed = zstd.compress(one.nar[:1000]) + zstd.compress(one.nar[1000:])
    filling = open_with(acme, one)
    assert filling.upload(frame(one.nar_hash, packed)).status == 200
    kept = acme.hub.data / "objects" / "nar" / one.nar_hash.base32[:2] / f"{one.nar_hash.base32}.nar.zst"
    assert kept.read_bytes() == packed


def test_frames_without_end_that_hold_nothing_are_refused(acme: Acme) -> None:
    one = member("app", "nothing", os.urandom(1000))
    filling = open_with(acme, one)
    # A few are what some writers make.
    assert (
        filling.upload(frame(one.nar_hash, zstd.compress(b"") * 900 + zstd.compress(one.nar))).status == 200
    )
    other = member("app", "nothing more", os.urandom(1000))
    filling = open_with(acme, other)
    answer = filling.upload(frame(other.nar_hash, zstd.compress(b"") * 1100 + zstd.compress(other.nar)))
    assert (answer.status, answer.json()["error"]["ref"]) == (422, "bad-nar")


def test_a_nar_that_is_cut_is_refused(acme: Acme) -> None:
    one = member("app", "cut", os.urandom(100_000))
    filling = open_with(acme, one)
    assert_refused(filling, one.frame[:-10], "bad-nar")
    assert_refused(filling, one.frame[:30], "bad-nar")
    assert_refused(filling, frame(one.nar_hash, zstd.compress(one.nar)[:-5]), "bad-nar")
    assert_refused(filling, frame(one.nar_hash, zstd.compress(one.nar[:-8])), "bad-nar")


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(acme: Acme) -> None:
    one = member("app", "gone", os.urandom(2_000_000))
    filling = open_with(acme, one)
    with socket.create_connection(("127.0.0.1", urlsplit(acme.hub.url).port or 0)) as connection:
        head = (
            f"POST {filling.place}/nars HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {acme.member}\r\n"
            f"Content-Length: {len(one.frame)}\r\n\r\n"
        )
        connection.sendall(head.encode() + one.frame[:1_500_000])
        wait_for(lambda: stored_files(acme.hub, "spool"))
    wait_for(lambda: not stored_files(acme.hub, "spool"))
    assert filling.upload(one.frame).status == 200


def test_bytes_that_are_damaged_are_refused(acme: Acme) -> None:
    one = member("app", "damaged", os.urandom(100_000))
    filling = open_with(acme, one)
    packed = bytearray(zstd.compress(one.nar))
    packed[50_000] ^= 1
    other = bytearray(one.nar)
    other[200] ^= 1
    assert_refused(filling, frame(one.nar_hash, zstd.compress(bytes(other))), "nar-mismatch")
    assert_refused(filling, frame(one.nar_hash, bytes(packed)), "nar-mismatch")
    assert_refused(filling, frame(one.nar_hash, os.urandom(1000)), "bad-nar")
    assert_refused(filling, frame(one.nar_hash, b""), "bad-nar")
    assert_refused(filling, b"x" * 500, "bad-nar")


def test_bytes_after_the_end_are_refused(acme: Acme) -> None:
    one = member("app", "after")
    filling = open_with(acme, one)
    assert_refused(filling, frame(one.nar_hash, zstd.compress(one.nar) + b"more"), "bad-nar")
    assert_refused(filling, frame(one.nar_hash, zstd.compress(one.nar + bytes(8))), "nar-mismatch")


def test_a_nar_that_is_larger_than_declared_is_stopped(acme: Acme) -> None:
    one = member("app", "larger", b"x" * 100_000)
    small = Member(one.path, one.nar[:-8], ())
    filling = acme.open()
    message = {
        "paths": [
            {
                "path": one.path.base_name,
                "nar_hash": one.nar_hash.nix32(),
                "nar_size": len(small.nar),
                "references": [],
            }
        ]
    }
    acme.ask("POST", f"{filling.place}/declarations", json=message)
    assert_refused(filling, one.frame, "nar-mismatch")


def test_a_zstd_bomb_is_stopped_at_the_size_that_was_declared(acme: Acme) -> None:
    one = member("app", "bomb")
    filling = open_with(acme, one)
    compressor = zstd.ZstdCompressor(level=3)
    # 4 GiB of zeros in some 400 kB.
    bomb = b"".join(compressor.compress(bytes(1 << 24)) for _ in range(256)) + compressor.flush()
    assert len(bomb) < 1_000_000
    assert_refused(filling, frame(one.nar_hash, bomb), "nar-mismatch")


def test_a_window_that_would_take_too_much_memory_is_refused(acme: Acme) -> None:
    one = member("app", "window", os.urandom(100_000))
    filling = open_with(acme, one)
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: 1,
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(one.nar) + compressor.flush()
    assert_refused(filling, frame(one.nar_hash, packed), "bad-nar")


def test_a_length_that_is_a_lie_is_found_out(acme: Acme) -> None:
    one = member("app", "length")
    filling = open_with(acme, one)
    packed = zstd.compress(one.nar)
    header = one.nar_hash.base32.encode()
    assert_refused(filling, header + (1 << 62).to_bytes(8, "little") + packed, "bad-nar")
    assert_refused(filling, header + (5).to_bytes(8, "little") + packed, "bad-nar")


def test_a_nar_that_nobody_declared_is_refused(acme: Acme) -> None:
    one, other = member("app", "one"), member("app", "other", b"other")
    filling = open_with(acme, one)
    assert_refused(filling, other.frame, "bad-nar")


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/etc/passwd", b"a\0b"])
def test_names_that_try_to_leave_their_folder_are_refused(acme: Acme, name: bytes) -> None:
    writer = NarWriter()
    whole = b"".join(
        (writer.directory(), writer.entry(b"PLACE"), writer.regular(0), writer.end(), writer.end())
    )
    nar = whole.replace(token(b"PLACE"), token(name))
    one = Member(new_path("app", name), nar, ())
    assert_refused(open_with(acme, one), one.frame, "bad-nar")


def test_entries_out_of_order_and_twice_are_refused(acme: Acme) -> None:
    writer = NarWriter()
    whole = b"".join(
        (
            writer.directory(),
            *(
                part
                for name in (b"AAAAA", b"BBBBB")
                for part in (writer.entry(name), writer.regular(0), writer.end())
            ),
            writer.end(),
        )
    )
    for name in (b"BBBBB", b"CCCCC"):
        one = Member(new_path("app", ("order", name)), whole.replace(b"AAAAA", name), ())
        assert_refused(open_with(acme, one), one.frame, "bad-nar")


def test_a_reference_that_is_not_declared_is_refused(acme: Acme) -> None:
    first = member("first", "undeclared")
    second = member("second", "undeclared", f"see {first.path}".encode())
    assert second.references == ()
    filling = open_with(acme, first, second)
    answer = filling.upload(first.frame, second.frame)
    assert (answer.status, answer.ref) == (422, "undeclared-reference")
    assert answer.json()["error"]["context"]["hash-parts"] == first.path.hash_part
    # What was right before the error stays.
    missing = filling.declare([first, second], {"x": second})["missing"]
    assert missing == [second.path.base_name]


def test_a_reference_to_an_older_release_of_the_project_has_to_be_declared_too(acme: Acme) -> None:
    old = member("old", "release")
    acme.publish("1.0.0", [old])
    new = member("new", "release", f"still uses {old.path}".encode())
    answer = open_with(acme, new).upload(new.frame)
    assert answer.ref == "undeclared-reference"


def test_a_path_may_mention_itself(acme: Acme) -> None:
    path = new_path("self", "itself")
    one = Member(path, file_nar(f"I am {path}".encode()), (path,))
    filling = open_with(acme, one)
    assert filling.upload(one.frame).status == 200
    filling.source()
    assert filling.finish().status == 200
    assert f"References: {path.base_name}\n" in acme.narinfo(one).body.decode()


def test_two_paths_with_the_same_nar_need_one_upload(acme: Acme) -> None:
    one, two = (Member(new_path(name, name), file_nar(b"the same"), ()) for name in ("one", "two"))
    assert one.nar_hash == two.nar_hash == sha256_of(file_nar(b"the same"))
    filling = open_with(acme, one, two)
    assert filling.upload(one.frame).status == 200
    assert filling.declare([one, two], {"x": two})["missing"] == []


def test_a_nar_that_is_there_in_another_compression_is_described_as_it_is(acme: Acme) -> None:
    one = member("app", "twice", b"twice " * 10_000)
    stranger = Acme(acme.hub)
    for who, level in ((acme, 1), (stranger, 19)):
        filling = open_with(who, one)
        filling.upload(frame(one.nar_hash, zstd.compress(one.nar, level=level)))
        filling.source()
        assert filling.finish().status == 200
    file = zstd.compress(one.nar, level=1)
    text = stranger.narinfo(one).body.decode()
    assert f"FileSize: {len(file)}\n" in text
    assert f"FileHash: {sha256_of(file).nix32()}\n" in text
