"""Trees of files as values: random ones, their NAR by the plainest means, and on disk."""

from pathlib import Path

from hypothesis import strategies as st

from piste.nix.nar import NarWriter

# A file (contents, executable), a link (its target) or a directory (name → tree).
Tree = tuple[bytes, bool] | bytes | dict[bytes, "Tree"]

names = st.one_of(
    st.binary(min_size=1, max_size=10).filter(lambda n: n not in (b".", b"..") and not set(n) & {0, 0x2F}),
    st.sampled_from([b"a", b"b", b"bin", b"share", b"x" * 255, "ä".encode(), b'q"\\', b"a b", b"-"]),
)
targets = st.binary(min_size=1, max_size=30).filter(lambda t: 0 not in t)
files = st.tuples(st.binary(max_size=40), st.booleans())
trees: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(files, targets), lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12
)


def pack(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + b"\0" * (-len(text) % 8)


def nar_of(tree: Tree) -> bytes:
    """The grammar of NARs, written down recursively."""
    return pack(b"nix-archive-1") + _node(tree)


def _node(tree: Tree) -> bytes:
    match tree:
        case dict():
            inner = pack(b"directory")
            for name in sorted(tree):
                inner += pack(b"entry") + pack(b"(") + pack(b"name") + pack(name) + pack(b"node")
                inner += _node(tree[name]) + pack(b")")
        case bytes():
            inner = pack(b"symlink") + pack(b"target") + pack(tree)
        case (contents, executable):
            flag = pack(b"executable") + pack(b"") if executable else b""
            inner = pack(b"regular") + flag + pack(b"contents") + pack(contents)
    return pack(b"(") + pack(b"type") + inner + pack(b")")


def written(tree: Tree, writer: NarWriter) -> bytes:
    """The same by NarWriter."""
    match tree:
        case dict():
            inner = writer.directory()
            for name in sorted(tree):
                inner += writer.entry(name) + written(tree[name], writer)
        case bytes():
            inner = writer.symlink(tree)
        case (contents, executable):
            inner = writer.regular(len(contents), executable) + bytes(writer.data(contents))
    return inner + writer.end()


def make(tree: Tree, place: Path) -> None:
    """The tree as files on disk."""
    match tree:
        case dict():
            place.mkdir()
            for name in tree:
                make(tree[name], place / name.decode())
        case bytes():
            place.symlink_to(tree.decode())
        case (contents, executable):
            place.write_bytes(contents)
            place.chmod(0o755 if executable else 0o644)


EXAMPLE: Tree = {
    b"bin": {b"hello": (b"#!/bin/sh\necho hello\n", True), b"hi": b"hello"},
    b"empty": {},
    b"lib": {b"data": (bytes(range(256)) * 40, False), b"none": (b"", False)},
    b"share": {"grüße".encode(): (b"hello", False), b"Z": (b"z", False), b"a b": (b"1234567", False)},
    b"way out": b"../../etc/passwd",
}
