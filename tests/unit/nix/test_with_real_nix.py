"""The pure core against real Nix: what one writes the other reads, and they agree on every name."""

import json
import shutil
from pathlib import Path

import pytest

from piste.nix.content_address import ContentAddress, Method
from piste.nix.hashes import Hash, sha256_of
from piste.nix.nar import MAX_DEPTH, NarParser, NarWriter
from piste.nix.narinfo import NarInfo, PathInfo, format_narinfo, parse_narinfo
from piste.nix.reference_scan import ReferenceScanner
from piste.nix.signature import PublicKey, SecretKey
from piste.nix.store_path import StorePath
from tests.unit.nix.conftest import RealNix
from tests.unit.nix.test_nar import BAD, deep
from tests.unit.nix.trees import EXAMPLE, make, nar_of, written

REFUSED_BY_NIX = {name: nar for name, nar in BAD.items() if name not in ("two nodes",)}


def test_nix_packs_the_tree_as_we_do(nix: RealNix, tmp_path: Path) -> None:
    make(EXAMPLE, tmp_path / "tree")
    nar = nix.run("nix-store", "--dump", tmp_path / "tree")
    assert nar == written(EXAMPLE, NarWriter())
    parser = NarParser()
    parser.feed(nar)
    parser.finish()


def test_nix_unpacks_what_we_write(nix: RealNix, tmp_path: Path) -> None:
    nix.run("nix-store", "--restore", tmp_path / "tree", data=written(EXAMPLE, NarWriter()))
    assert (tmp_path / "tree/bin/hello").read_bytes() == b"#!/bin/sh\necho hello\n"
    assert (tmp_path / "tree/bin/hello").stat().st_mode & 0o111
    assert (tmp_path / "tree/bin/hi").readlink() == Path("hello")
    assert nix.run("nix-store", "--dump", tmp_path / "tree") == nar_of(EXAMPLE)


def test_nix_lists_the_same(nix: RealNix, tmp_path: Path) -> None:
    (tmp_path / "a.nar").write_bytes(nar_of(EXAMPLE))
    listed = json.loads(nix.run("nix", "nar", "ls", "--json", "--recursive", tmp_path / "a.nar", "/"))
    parser = NarParser()
    parser.feed(nar_of(EXAMPLE))
    listing = parser.listing()
    assert listing is not None
    assert listing["root"] == listed


@pytest.mark.parametrize("name", REFUSED_BY_NIX)
def test_nix_refuses_what_we_refuse(newest_nix: RealNix, tmp_path: Path, name: str) -> None:
    done = newest_nix.attempt("nix-store", "--restore", tmp_path / "tree", data=REFUSED_BY_NIX[name])
    assert done.returncode != 0


def test_nix_takes_the_limits_that_we_take(nix: RealNix, tmp_path: Path) -> None:
    nix.run("nix-store", "--restore", tmp_path / "deep", data=nar_of(deep(MAX_DEPTH)))
    nix.run("nix-store", "--restore", tmp_path / "long", data=nar_of({b"a" * 255: b"b" * 4095}))


def test_paths_of_content_are_those_of_nix(nix: RealNix, tmp_path: Path) -> None:
    make(EXAMPLE, tmp_path / "tree")
    (tmp_path / "file").write_bytes(b"hello")

    def add(*arguments: str | Path) -> StorePath:
        return StorePath.parse(nix.run("nix-store", *arguments).decode().strip())

    def ours(method: Method, data: bytes, name: str, algorithm: str = "sha256") -> StorePath:
        text = nix.run("nix-hash", "--flat", "--type", algorithm, "/dev/stdin", data=data).decode().strip()
        return ContentAddress(method, Hash.parse(f"{algorithm}:{text}")).store_path(name)

    file_nar = nar_of((b"hello", False))
    assert add("--add", tmp_path / "tree") == ours("nar", nar_of(EXAMPLE), "tree")
    assert add("--add-fixed", "sha256", tmp_path / "file") == ours("flat", b"hello", "file")
    assert add("--add-fixed", "sha1", tmp_path / "file") == ours("flat", b"hello", "file", "sha1")
    assert add("--add-fixed", "--recursive", "sha256", tmp_path / "file") == ours("nar", file_nar, "file")
    assert add("--add-fixed", "--recursive", "sha512", tmp_path / "file") == ours(
        "nar", file_nar, "file", "sha512"
    )


def test_texts_and_what_they_refer_to_are_named_as_by_nix(nix: RealNix) -> None:
    expression = 'let x = builtins.toFile "x" "hi"; in [ x (builtins.toFile "y" "see ${x}") ]'
    told = nix.run("nix-instantiate", "--eval", "--strict", "--json", "--expr", expression)
    first, second = map(StorePath.parse, json.loads(told))
    address = ContentAddress("text", sha256_of(f"see {first}".encode()))
    assert ContentAddress("text", sha256_of(b"hi")).names(first)
    assert address.names(second, [first])
    assert not address.names(second)


def test_hashes_are_printed_as_by_nix(nix: RealNix) -> None:
    hash_ = sha256_of(b"some text")
    assert (
        nix.run("nix-hash", "--type", "sha256", "--to-base32", hash_.hex()).decode().strip() == hash_.base32
    )
    assert (
        nix.run("nix-hash", "--type", "sha256", "--to-base16", hash_.base32).decode().strip() == hash_.hex()
    )
    assert nix.run("nix", "hash", "to-sri", "--type", "sha256", hash_.base32).decode().strip() == hash_.sri()


def test_keys_of_nix_are_ours_and_ours_are_those_of_nix(nix: RealNix) -> None:
    made = nix.run("nix", "key", "generate-secret", "--key-name", "test-1")
    key = SecretKey.parse(made.decode())
    assert nix.run("nix", "key", "convert-secret-to-public", data=made).decode().strip() == str(key.public)
    own = SecretKey.generate("test-2")
    told = nix.run("nix", "key", "convert-secret-to-public", data=own.format_secret().encode())
    assert PublicKey.parse(told.decode()) == own.public


def test_a_cache_that_nix_writes_is_read(nix: RealNix, tmp_path: Path) -> None:
    make(EXAMPLE, tmp_path / "tree")
    path = StorePath.parse(nix.run("nix-store", "--add", tmp_path / "tree").decode().strip())
    key = SecretKey.generate("test-1")
    (tmp_path / "key").write_text(key.format_secret())
    options = f"compression=zstd&write-nar-listing=true&secret-key={tmp_path / 'key'}"
    nix.run("nix", "copy", "--to", f"file://{tmp_path / 'cache'}?{options}", str(path))

    text = (tmp_path / "cache" / f"{path.hash_part}.narinfo").read_text()
    narinfo = parse_narinfo(text)
    assert format_narinfo(narinfo) == text
    assert narinfo.info.path == path
    assert narinfo.info.nar_hash == sha256_of(nar_of(EXAMPLE))
    assert narinfo.info.nar_size == len(nar_of(EXAMPLE))
    assert key.public.verify(narinfo.info.fingerprint(), narinfo.info.signatures[0])
    assert narinfo.info.ca is not None
    assert ContentAddress.parse(narinfo.info.ca).names(path)
    parser = NarParser()
    parser.feed(nar_of(EXAMPLE))
    assert json.loads((tmp_path / "cache" / f"{path.hash_part}.ls").read_bytes()) == parser.listing()


def serve(folder: Path, nars: dict[PathInfo, bytes]) -> None:
    """A binary cache as files."""
    folder.mkdir()
    (folder / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    for info, nar in nars.items():
        url = f"{info.nar_hash.base32}.nar"
        (folder / url).write_bytes(nar)
        (folder / f"{info.path.hash_part}.narinfo").write_text(format_narinfo(NarInfo(info, url, "none")))


def test_nix_takes_a_closure_that_we_sign_and_no_other(nix: RealNix, tmp_path: Path) -> None:
    key, stranger = SecretKey.generate("test-1"), SecretKey.generate("test-1")
    dependency = StorePath("1" * 32, "dependency+1.0")
    top = StorePath("0" * 32, "top")
    lower_nar = nar_of({b"a": (f"I am {dependency}".encode(), False)})
    upper_nar = nar_of({b"bin": f"{dependency}/a".encode(), b"self": str(top).encode()})
    lower = PathInfo(dependency, sha256_of(lower_nar), len(lower_nar), (dependency,))
    upper = PathInfo(
        top, sha256_of(upper_nar), len(upper_nar), (top, dependency), StorePath("2" * 32, "top.drv")
    )
    for signer, accepted in ((key, True), (stranger, False)):
        signed = [info.with_signatures([signer.sign(info.fingerprint())]) for info in (lower, upper)]
        cache = tmp_path / str(accepted)
        serve(cache, dict(zip(signed, (lower_nar, upper_nar), strict=True)))
        target = f"local?root={tmp_path / f'target-{accepted}'}"
        copy = ["nix", "copy", "--from", f"file://{cache}", "--to", target, str(top)]
        done = nix.attempt(*copy, "--option", "trusted-public-keys", str(key.public))
        assert (done.returncode == 0) == accepted, done.stderr.decode()
        assert (tmp_path / f"target-{accepted}" / str(top)[1:] / "bin").is_symlink() == accepted


SCANNED = """
  let
    dep = name: builtins.toFile name name;
    shell = builtins.path { name = "shell"; path = @shell@; };
  in derivation {
    name = "scan"; system = builtins.currentSystem; builder = "${shell}/busybox"; c = dep "c";
    args = [ "sh" "-c" "echo 1234567890abcdfghijklmn${dep "a"}x ${baseNameOf (dep "b")} $out > $out" ];
  }"""


def test_the_references_that_nix_finds_are_found(newest_nix: RealNix, tmp_path: Path) -> None:
    (tmp_path / "shell").mkdir()
    shutil.copy(newest_nix.binaries / "busybox", tmp_path / "shell/busybox")
    expression = SCANNED.replace("@shell@", str(tmp_path / "shell"))
    built = newest_nix.attempt("nix-build", "--no-out-link", "--expr", expression)
    if built.returncode != 0 and b"namespaces" in built.stderr:
        pytest.skip("this kernel lets nobody build in a sandbox: namespaces are refused")
    assert built.returncode == 0, built.stderr.decode()
    path = StorePath.parse(built.stdout.decode().strip())
    told = newest_nix.run("nix-store", "--query", "--references", str(path)).decode().split()
    references = {StorePath.parse(reference).hash_part for reference in told}
    assert len(references) == 3

    nar = newest_nix.run("nix-store", "--dump", newest_nix.folder / "root" / str(path)[1:])
    others = [
        reference[11:43]
        for reference in newest_nix.run("nix-store", "--query", "-R", str(path)).decode().split()
    ]
    known = ReferenceScanner([*references, *others, "0" * 32])
    for at in range(0, len(nar), 7):
        known.feed(nar[at : at + 7])
    assert known.found == references
