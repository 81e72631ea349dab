"""The daemon's protocol as bytes: both ways, and nothing that the other side says is trusted."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix import worker_protocol as wp
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import StorePath
from piste.nix.worker_protocol import DaemonError, ProtocolError
from tests.unit.nix.strategies import path_infos

u64s = st.integers(0, 2**64 - 1)
PATH = StorePath("0" * 32, "a")


class Drip:
    """A source that gives one byte a call, as a slow pipe may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, n: int, /) -> bytes:
        return self._data.read(min(n, 1))


@given(
    u64s,
    st.binary(max_size=50),
    st.text(max_size=20),
    st.lists(st.sampled_from(["", "a", "ä" * 9]), max_size=4),
)
def test_what_is_packed_is_read_again(number: int, data: bytes, text: str, texts: list[str]) -> None:
    if not text.isprintable():
        text = "x"
    packed = wp.pack_u64(number) + wp.pack_string(data) + wp.pack_string(text) + wp.pack_strings(texts)
    assert len(packed) % 8 == 0
    for source in (io.BytesIO(packed), Drip(packed)):
        assert wp.read_u64(source) == number
        assert wp.read_bytes(source) == data
        assert wp.read_string(source) == text
        assert wp.read_strings(source) == texts
        assert source.read(1) == b""


def test_the_primitives_are_those_of_the_specification() -> None:
    assert wp.pack_u64(258) == bytes([2, 1, 0, 0, 0, 0, 0, 0])
    assert wp.pack_string("abc") == bytes([3, 0, 0, 0, 0, 0, 0, 0]) + b"abc\0\0\0\0\0"
    assert wp.pack_string("12345678") == bytes([8, 0, 0, 0, 0, 0, 0, 0]) + b"12345678"
    assert wp.pack_strings([]) == wp.pack_string("") == wp.pack_bool(False) == bytes(8)


@given(path_infos, u64s, st.booleans())
def test_a_path_info_comes_back(info: PathInfo, time: int, ultimate: bool) -> None:
    packed = wp.pack_path_info(info, registration_time=time, ultimate=ultimate)
    registered = wp.read_path_info(io.BytesIO(packed), info.path)
    assert (registered.info, registered.registration_time, registered.ultimate) == (info, time, ultimate)
    optional = wp.read_optional_path_info(io.BytesIO(wp.pack_bool(True) + packed), info.path)
    assert optional == registered
    assert wp.read_optional_path_info(io.BytesIO(wp.pack_bool(False)), info.path) is None


@given(path_infos, st.integers(0, 40))
def test_a_cut_answer_is_an_error(info: PathInfo, cut: int) -> None:
    packed = wp.pack_path_info(info)
    with pytest.raises(ProtocolError, match="closed the connection"):
        wp.read_path_info(io.BytesIO(packed[: -1 - cut]), info.path)


@pytest.mark.parametrize(
    "answer",
    [
        wp.pack_u64(1 << 40),
        wp.pack_u64(3) + b"abc\0\0\0\0x",
        wp.pack_string("/etc/passwd") + wp.pack_string("0" * 64) + bytes(64),
        wp.pack_string("") + wp.pack_string("0" * 63) + bytes(64),
        wp.pack_string("") + wp.pack_string("0" * 64) + wp.pack_strings(["x"]) + bytes(64),
        wp.pack_string("") + wp.pack_string("0" * 64) + bytes(64),
        wp.pack_string("") + wp.pack_string("0" * 64) + wp.pack_u64(1 << 50) + bytes(64),
    ],
)
def test_a_senseless_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        wp.read_path_info(io.BytesIO(answer), PATH)


def hello(word: int, magic: int = 0x6478696F) -> io.BytesIO:
    return io.BytesIO(wp.pack_u64(magic) + wp.pack_u64(word))


def test_both_sides_speak_the_lower_version() -> None:
    assert wp.client_hello((1, 37)) == wp.pack_u64(0x6E697863) + wp.pack_u64(0x125)
    assert wp.read_server_hello(hello(1 << 8 | 34)) == (1, 34)
    assert wp.read_server_hello(hello(1 << 8 | 38)) == (1, 38)
    assert wp.read_server_hello(hello(1 << 8 | 50)) == wp.NEWEST
    assert wp.read_server_hello(hello(1 << 8 | 38), (1, 37)) == (1, 37)
    assert [wp.has_features(v) for v in ((1, 34), (1, 37), (1, 38))] == [False, False, True]


@pytest.mark.parametrize(
    "answer",
    [hello(1 << 8 | 38, magic=7), hello(1 << 8 | 33), hello(2 << 8), hello(10), io.BytesIO(b"HTTP/1.1 400")],
)
def test_something_else_than_a_daemon_is_recognised(answer: io.BytesIO) -> None:
    with pytest.raises(ProtocolError):
        wp.read_server_hello(answer)


def test_old_daemons_do_not_say_whom_they_trust() -> None:
    said = wp.pack_string("2.34.8") + wp.pack_u64(1)
    assert wp.read_server_info(io.BytesIO(said), (1, 35)) == wp.ServerInfo("2.34.8", wp.Trust.TRUSTED)
    assert wp.read_server_info(io.BytesIO(said), (1, 34)) == wp.ServerInfo("2.34.8", wp.Trust.UNKNOWN)
    strange = wp.pack_string("2.34.8") + wp.pack_u64(9)
    assert wp.read_server_info(io.BytesIO(strange), (1, 38)).trust is wp.Trust.UNKNOWN


LAST = wp.pack_u64(wp.Stderr.LAST)
FIELDS = wp.pack_u64(2) + wp.pack_u64(0) + wp.pack_u64(9) + wp.pack_u64(1) + wp.pack_string("x")
CHATTER = (
    wp.pack_u64(wp.Stderr.NEXT) + wp.pack_string(b"a line \xff")
    + wp.pack_u64(wp.Stderr.START_ACTIVITY) + wp.pack_u64(1) * 3 + wp.pack_string("text") + FIELDS
    + wp.pack_u64(0)  # the parent
    + wp.pack_u64(wp.Stderr.RESULT) + wp.pack_u64(1) * 2 + FIELDS
    + wp.pack_u64(wp.Stderr.WRITE) + wp.pack_string(b"data")
    + wp.pack_u64(wp.Stderr.STOP_ACTIVITY) + wp.pack_u64(1)
)  # fmt: skip


def error(message: str, *traces: str) -> bytes:
    packed = [wp.pack_u64(wp.Stderr.ERROR), wp.pack_string("Error"), wp.pack_u64(0), wp.pack_string("Error")]
    packed += [wp.pack_string(message), wp.pack_u64(0), wp.pack_u64(len(traces))]
    return b"".join(packed + [wp.pack_u64(0) + wp.pack_string(trace) for trace in traces])


def test_the_chatter_before_a_result_is_passed_over() -> None:
    lines: list[str] = []
    source = io.BytesIO(CHATTER + LAST + b"result")
    wp.read_stderr_until_last(source, lines.append)
    assert lines == ["a line \N{REPLACEMENT CHARACTER}"]
    assert source.read() == b"result"
    wp.read_stderr_until_last(Drip(CHATTER + LAST))


def test_an_error_of_the_daemon_is_told_in_its_words_and_leaves_the_connection_usable() -> None:
    source = io.BytesIO(CHATTER + error("no such path", "while copying", "while looking") + LAST)
    with pytest.raises(DaemonError, match="no such path\nwhile copying\nwhile looking") as caught:
        wp.read_stderr_until_last(source)
    assert caught.value.message.startswith("no such path")
    wp.read_stderr_until_last(source)


@pytest.mark.parametrize(
    "said",
    [
        wp.pack_u64(7),
        wp.pack_u64(wp.Stderr.READ) + wp.pack_u64(100),
        wp.pack_u64(wp.Stderr.RESULT) + bytes(16) + wp.pack_u64(1) + wp.pack_u64(2),
        wp.pack_u64(wp.Stderr.RESULT) + bytes(16) + wp.pack_u64(1 << 60),
        wp.pack_u64(wp.Stderr.NEXT) + wp.pack_u64(1 << 60),
        error("x")[:-8] + wp.pack_u64(1 << 60),
        CHATTER,
        b"",
    ],
)
def test_what_the_protocol_does_not_have_ends_the_connection(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        wp.read_stderr_until_last(io.BytesIO(said))


def test_an_empty_frame_cannot_be_sent_by_mistake() -> None:
    assert wp.frame_head(5) == wp.pack_u64(5)
    assert bytes(8) == wp.END_OF_FRAMES
    with pytest.raises(ValueError, match="empty frame"):
        wp.frame_head(0)
