"""NARs: read in pieces of any size, written again, listed; everything that Nix refuses is refused."""

import json
import os
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piste.nix.nar import MAX_DEPTH, NarError, NarParser, NarWriter
from tests.unit.nix.trees import EXAMPLE, Tree, nar_of, pack, trees, written


def parse(data: bytes, size: int = 1 << 20, **options: Any) -> NarParser:
    parser = NarParser(**options)
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
    parser.finish()
    return parser


def naive_listing(tree: Tree, nar: bytes) -> dict[str, Any]:
    """The listing by a recursive walk; offsets are found by looking for the contents from left to right."""
    at = 0

    def node(tree: Tree) -> dict[str, Any]:
        nonlocal at
        match tree:
            case dict():
                entries = {name.decode(): node(tree[name]) for name in sorted(tree)}
                return {"type": "directory", "entries": entries}
            case bytes():
                return {"type": "symlink", "target": tree.decode()}
            case (contents, executable):
                at = nar.index(pack(b"contents") + pack(contents), at) + 24
                flag = {"executable": True} if executable else {}
                return {"type": "regular", "size": len(contents), "narOffset": at, **flag}

    return {"version": 1, "root": node(tree)}


@given(trees)
def test_the_writer_follows_the_grammar(tree: Tree) -> None:
    writer = NarWriter()
    assert written(tree, writer) == nar_of(tree)
    assert writer.done


class Copy:
    """A sink that writes again what it hears."""

    def __init__(self) -> None:
        self.writer = NarWriter()
        self.bytes = b""

    def directory(self) -> None:
        self.bytes += self.writer.directory()

    def entry(self, name: bytes) -> None:
        self.bytes += self.writer.entry(name)

    def regular(self, size: int, executable: bool = False) -> None:
        self.bytes += self.writer.regular(size, executable)

    def data(self, piece: bytes | memoryview) -> None:
        self.bytes += bytes(self.writer.data(piece))

    def symlink(self, target: bytes) -> None:
        self.bytes += self.writer.symlink(target)

    def end(self) -> None:
        self.bytes += self.writer.end()


@given(trees, st.integers(1, 200))
def test_a_nar_fed_in_pieces_of_any_size_gives_itself_again(tree: Tree, size: int) -> None:
    nar = nar_of(tree)
    copy = Copy()
    parser = parse(nar, size, sink=copy)
    assert copy.bytes == nar
    assert parser.size == len(nar)
    assert parser.listing_json() == parse(nar).listing_json()


def test_every_piece_size_works_for_the_example() -> None:
    nar = nar_of(EXAMPLE)
    wanted = naive_listing(EXAMPLE, nar)
    for size in range(1, 300):
        assert parse(nar, size).listing() == wanted


def test_memoryviews_are_taken_too() -> None:
    nar = nar_of(EXAMPLE)
    parser = NarParser()
    view = memoryview(nar)
    for at in range(0, len(nar), 1000):
        parser.feed(view[at : at + 1000])
    parser.finish()
    assert parser.listing() == naive_listing(EXAMPLE, nar)


@given(trees)
def test_the_offsets_of_the_listing_point_at_the_contents(tree: Tree) -> None:
    nar = nar_of(tree)
    listing = parse(nar).listing()

    def check(node: dict[str, Any], tree: Tree) -> None:
        match tree:
            case dict():
                assert {name.encode() for name in node["entries"]} == tree.keys()
                for name in tree:
                    check(node["entries"][name.decode()], tree[name])
            case bytes():
                assert node == {"type": "symlink", "target": tree.decode()}
            case (contents, executable):
                assert nar[node["narOffset"] :][: node["size"]] == contents
                assert node.get("executable", False) == executable

    if listing is not None:
        assert listing["version"] == 1
        check(listing["root"], tree)


def test_names_that_are_not_utf_8_make_no_listing_but_are_fine() -> None:
    assert parse(nar_of({b"\xff": (b"", False)})).listing() is None
    assert parse(nar_of(b"\xff")).listing_json() is None


def test_a_listing_beyond_its_limit_is_left_out() -> None:
    nar = nar_of({b"%d" % n: (b"", False) for n in range(100)})
    assert parse(nar).listing() is not None
    assert parse(nar, listing_limit=1000).listing() is None


@settings(max_examples=50)
@given(trees, st.data())
def test_a_cut_nar_is_never_whole(tree: Tree, data: st.DataObject) -> None:
    nar = nar_of(tree)
    cut = data.draw(st.integers(0, len(nar) - 1))
    parser = NarParser()
    parser.feed(nar[:cut])
    assert not parser.done
    with pytest.raises(NarError, match=f"cut: it ends after {cut} bytes"):
        parser.finish()


@settings(max_examples=300)
@given(trees, st.data())
def test_a_changed_byte_is_seen_or_is_content(tree: Tree, data: st.DataObject) -> None:
    nar = nar_of(tree)
    at = data.draw(st.integers(0, len(nar) - 1))
    changed = nar[:at] + bytes([nar[at] ^ data.draw(st.integers(1, 255))]) + nar[at + 1 :]
    copy = Copy()
    try:
        parse(changed, sink=copy)
    except NarError:
        return
    # What is accepted is a NAR: written again it is the same bytes.
    assert copy.bytes == changed


def test_bytes_after_the_end_are_given_back_or_refused() -> None:
    nar = nar_of(EXAMPLE)
    parser = NarParser()
    parser.feed(nar + b"next")
    assert parser.done
    assert parser.unused == b"next"
    assert parser.size == len(nar)
    with pytest.raises(NarError, match="follow after the end"):
        parser.finish()
    with pytest.raises(NarError, match="follow after the end"):
        parser.feed(b"more")
    parser.feed(b"")


def deep(levels: int) -> Tree:
    tree: Tree = (b"", False)
    for _ in range(levels):
        tree = {b"d": tree}
    return tree


def entry(name: bytes, node: bytes) -> bytes:
    return pack(b"entry") + pack(b"(") + pack(b"name") + pack(name) + pack(b"node") + node + pack(b")")


HEAD = pack(b"nix-archive-1") + pack(b"(") + pack(b"type")
FILE = nar_of((b"x", False))[24:]
CLOSE = pack(b")")
DIRECTORY = HEAD + pack(b"directory")
REGULAR = HEAD + pack(b"regular")
U64_MAX = b"\xff" * 8

BAD = {
    "empty": b"nothing here at all, really",
    "magic": pack(b"nix-archive-2") + nar_of((b"", False))[24:],
    "type": HEAD + pack(b"fifo") + CLOSE,
    "no type": pack(b"nix-archive-1") + pack(b"(") + CLOSE,
    "name with slash": DIRECTORY + entry(b"a/b", FILE) + CLOSE,
    "absolute name": DIRECTORY + entry(b"/etc", FILE) + CLOSE,
    "dot": DIRECTORY + entry(b".", FILE) + CLOSE,
    "dot dot": DIRECTORY + entry(b"..", FILE) + CLOSE,
    "empty name": DIRECTORY + entry(b"", FILE) + CLOSE,
    "zero in name": DIRECTORY + entry(b"a\0b", FILE) + CLOSE,
    "long name": DIRECTORY + entry(b"a" * 256, FILE) + CLOSE,
    "huge name": DIRECTORY + pack(b"entry") + pack(b"(") + pack(b"name") + U64_MAX,
    "same name twice": DIRECTORY + entry(b"a", FILE) + entry(b"a", FILE) + CLOSE,
    "out of order": DIRECTORY + entry(b"b", FILE) + entry(b"a", FILE) + CLOSE,
    "too deep": nar_of(deep(MAX_DEPTH + 1)),
    "padding of a name": DIRECTORY + entry(b"a", FILE).replace(pack(b"a"), pack(b"a")[:-1] + b"x") + CLOSE,
    "padding of contents": REGULAR + pack(b"contents") + pack(b"x")[:-1] + b"x" + CLOSE,
    "padding of a target": HEAD + pack(b"symlink") + pack(b"target") + pack(b"x")[:-1] + b"x" + CLOSE,
    "executable with a value": REGULAR
    + pack(b"executable")
    + pack(b"1")
    + pack(b"contents")
    + pack(b"")
    + CLOSE,
    "huge file": REGULAR + pack(b"contents") + U64_MAX + bytes(100),
    "no contents": REGULAR + CLOSE,
    "empty target": HEAD + pack(b"symlink") + pack(b"target") + pack(b"") + CLOSE,
    "long target": nar_of(b"a" * 4096),
    "huge target": HEAD + pack(b"symlink") + pack(b"target") + U64_MAX,
    "zero in target": nar_of(b"a\0b"),
    "entry in a file": REGULAR + pack(b"contents") + pack(b"") + entry(b"a", FILE),
    "entry without end": DIRECTORY + entry(b"a", FILE)[:-16] + entry(b"b", FILE) + CLOSE + CLOSE,
    "something in a directory": DIRECTORY + pack(b"surprise") + CLOSE,
    "two nodes": nar_of((b"", False)) + nar_of((b"", False))[24:],
}


@pytest.mark.parametrize("nar", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_nix_refuses_is_refused(nar: bytes, size: int) -> None:
    with pytest.raises(NarError):
        parse(nar, size)


def test_the_limits_themselves_are_allowed() -> None:
    parse(nar_of(deep(MAX_DEPTH)))
    parse(nar_of({b"a" * 255: b"b" * 4095}))


def test_a_wrong_byte_is_named_with_its_place() -> None:
    nar = bytearray(nar_of((b"hello", False)))
    nar[-16] = 7
    with pytest.raises(NarError, match="at byte 101 it has"):
        parse(bytes(nar), 5)


def test_contents_of_gigabytes_cost_neither_memory_nor_time() -> None:
    size = 8 << 30
    writer = NarWriter()
    parser = NarParser()
    parser.feed(writer.directory() + writer.entry(b"big") + writer.regular(size))
    piece = bytes(1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(size // len(piece)):
        parser.feed(writer.data(piece))
    after = resource.getrusage(resource.RUSAGE_SELF)
    parser.feed(writer.end() + writer.end())
    parser.finish()
    assert parser.size == size + 24 + 32 + 24 + 16 * 2 + 16 + 16 + 16 + 16 + 32 + 16 + 8 + 16 * 3
    assert after.ru_utime - before.ru_utime < 2
    assert after.ru_maxrss - before.ru_maxrss < 10_000


def test_an_archive_of_endless_small_entries_takes_bounded_memory() -> None:
    parser = NarParser(listing_limit=100_000)
    writer = NarWriter()
    parser.feed(writer.directory())
    for n in range(20_000):
        name = b"%08d" % n
        parser.feed(writer.entry(name) + writer.regular(0) + writer.end())
    parser.feed(writer.end())
    assert parser.listing_json() is None
    assert parser.done


def test_the_listing_is_json_of_version_one() -> None:
    text = parse(nar_of({b"a": (b"x", True)})).listing_json()
    assert text is not None
    entries = {"a": {"type": "regular", "size": 1, "executable": True, "narOffset": 264}}
    assert json.loads(text) == {"version": 1, "root": {"type": "directory", "entries": entries}}


def test_before_the_end_there_is_no_listing() -> None:
    with pytest.raises(NarError, match="before its end"):
        NarParser().listing()


def refused(*calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(NarError):
            call()


def test_the_writer_keeps_its_caller_to_the_grammar() -> None:
    writer = NarWriter()
    writer.directory()
    for wrong in (b"", b".", b"..", b"a/b", b"a\0", b"x" * 256):
        refused(partial(writer.entry, wrong))
    writer.entry(b"b")
    refused(writer.end, partial(writer.entry, b"c"), partial(writer.data, b"x"))
    writer.regular(2)
    writer.data(b"x")
    refused(writer.end, writer.directory, partial(writer.data, b"xy"), partial(writer.entry, b"c"))
    writer.data(b"y")
    writer.end()
    refused(partial(writer.entry, b"b"), partial(writer.entry, b"a"))
    writer.end()
    assert writer.done
    refused(writer.end, writer.directory, partial(writer.symlink, b"x"), partial(NarWriter().symlink, b""))


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_are_no_nar(seed: int) -> None:
    with pytest.raises(NarError):
        parse(os.urandom(1000 + seed))
