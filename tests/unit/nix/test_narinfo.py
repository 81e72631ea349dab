"""Narinfos: printed and read back, strict where a mistake would mislead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix.hashes import Hash, sha256_of
from piste.nix.narinfo import COMPRESSIONS, NarInfo, NarInfoError, PathInfo, format_narinfo, parse_narinfo
from piste.nix.signature import SecretKey
from piste.nix.store_path import StorePath
from tests.unit.nix.strategies import path_infos, sha256s

narinfos = st.builds(
    NarInfo,
    info=path_infos,
    url=st.sampled_from(["nar/x.nar.zst", "nar/x.nar?hash=1", "../a%2Bb"]),
    compression=st.sampled_from(sorted(COMPRESSIONS)),
    file_hash=st.none() | sha256s,
    file_size=st.none() | st.integers(1, 2**63 - 1),
)

HASH = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
OTHER = "1" * 32 + "-b"
TEXT = f"""StorePath: /nix/store/{"0" * 32}-a
URL: nar/1.nar.zst
Compression: zstd
FileHash: sha256:{HASH}
FileSize: 10
NarHash: sha256:{HASH}
NarSize: 120
References: {OTHER} {"0" * 32}-a
Deriver: {"2" * 32}-a.drv
Sig: k-1:AAAA
Sig: k-2:BBBB
CA: fixed:r:sha256:{HASH}
"""


@given(narinfos)
def test_a_printed_narinfo_reads_back_as_itself(narinfo: NarInfo) -> None:
    assert parse_narinfo(format_narinfo(narinfo)) == narinfo


def test_every_field_is_read() -> None:
    narinfo = parse_narinfo(TEXT)
    path, other = StorePath("0" * 32, "a"), StorePath.from_base_name(OTHER)
    assert narinfo == NarInfo(
        PathInfo(
            path,
            sha256_of(b""),
            120,
            (path, other),
            StorePath("2" * 32, "a.drv"),
            ("k-1:AAAA", "k-2:BBBB"),
            f"fixed:r:sha256:{HASH}",
        ),
        "nar/1.nar.zst",
        "zstd",
        sha256_of(b""),
        10,
    )


def test_references_are_printed_sorted_and_never_without_their_space() -> None:
    path = StorePath("0" * 32, "a")
    references = (StorePath.from_base_name(OTHER), path, path)
    info = PathInfo(path, sha256_of(b""), 1, references)
    assert info.references == (path, references[0])
    assert f"References: {path.base_name} {OTHER}\n" in format_narinfo(NarInfo(info, "u", "none"))
    alone = PathInfo(path, sha256_of(b""), 1)
    assert "\nReferences: \n" in format_narinfo(NarInfo(alone, "u", "none"))


def test_the_fingerprint_is_that_of_the_specification() -> None:
    info = parse_narinfo(TEXT).info
    store = "/nix/store/"
    assert info.fingerprint() == (
        f"1;{store}{'0' * 32}-a;sha256:{HASH};120;{store}{'0' * 32}-a,{store}{OTHER}"
    )
    key = SecretKey.generate("k")
    signed = info.with_signatures([key.sign(info.fingerprint())])
    assert key.public.verify(signed.fingerprint(), signed.signatures[0])
    assert signed.fingerprint() == info.fingerprint()
    assert PathInfo(info.path, info.nar_hash, 5).fingerprint().endswith(";5;")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (("Compression: zstd\n", ""), "bzip2"),
        (("Compression: zstd", "Compression: "), "bzip2"),
        (("zstd\n", "none\n"), "none"),
    ],
)
def test_no_compression_means_what_nix_takes_it_for(change: tuple[str, str], value: str) -> None:
    assert parse_narinfo(TEXT.replace(*change)).compression == value


def test_what_is_optional_may_be_absent_and_what_is_unknown_is_passed_over() -> None:
    text = f"""StorePath: /nix/store/{"0" * 32}-a
URL: x
NarHash: sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
NarSize: 1
System: x86_64-linux
Deriver: unknown-deriver
FileSize: 0
"""
    narinfo = parse_narinfo(text)
    assert narinfo.info == PathInfo(StorePath("0" * 32, "a"), sha256_of(b""), 1)
    assert (narinfo.file_hash, narinfo.file_size) == (None, None)


BAD = [
    ("StorePath: ", "Storepath: "),
    ("StorePath: /nix/store/", "StorePath: /gnu/store/"),
    (f"{'0' * 32}-a\nURL", "../../etc/passwd\nURL"),
    ("URL: nar/1.nar.zst\n", ""),
    ("URL: nar/1.nar.zst", "URL: "),
    ("URL: nar/1.nar.zst", "URL: nar/1 .nar"),
    ("URL: nar/1.nar.zst", "URL: nar/1\r"),
    ("URL: nar/1.nar.zst", "URL: " + "x" * 5000),
    ("Compression: zstd", "Compression: rot13"),
    ("Compression: zstd", "Compression: zstd\nCompression: xz"),
    (f"NarHash: sha256:{HASH}\n", ""),
    (f"NarHash: sha256:{HASH}", f"NarHash: sha256:{HASH[1:]}"),
    (f"NarHash: sha256:{HASH}", f"NarHash: md5:{'0' * 32}"),
    (f"NarHash: sha256:{HASH}", f"NarHash: {HASH}"),
    (f"FileHash: sha256:{HASH}", "FileHash: x"),
    ("NarSize: 120\n", ""),
    ("NarSize: 120", "NarSize: 0"),
    ("NarSize: 120", "NarSize: -1"),
    ("NarSize: 120", "NarSize: 1e3"),
    ("NarSize: 120", "NarSize: ١"),
    ("NarSize: 120", "NarSize: 99999999999999999999"),
    ("NarSize: 120", "NarSize: 120\nNarSize: 121"),
    ("FileSize: 10", "FileSize: x"),
    ("FileSize: 10", f"FileSize: {2**63}"),
    (f"References: {OTHER}", "References: /nix/store/" + OTHER),
    (f"References: {OTHER}", "References: x"),
    ("References: ", "References:"),
    (f"Deriver: {'2' * 32}-a.drv", "Deriver: x"),
    ("CA: ", "CA: text:x\nCA: "),
    ("Sig: k-1:AAAA\n", "Sig: k-1:AAAA\n" * 101),
    ("Sig: k-1:AAAA\n", "\n"),
    ("Sig: k-1:AAAA\n", "nonsense\n"),
]


@pytest.mark.parametrize("change", BAD)
def test_a_wrong_narinfo_is_refused(change: tuple[str, str]) -> None:
    changed = TEXT.replace(*change, 1)
    assert changed != TEXT
    with pytest.raises(NarInfoError):
        parse_narinfo(changed)


@pytest.mark.parametrize(
    "text", ["", "\n", TEXT[:-1], TEXT[:100], TEXT + "\n", TEXT + "X: " + "y" * 3_000_000 + "\n"]
)
def test_a_cut_or_endless_narinfo_is_refused(text: str) -> None:
    with pytest.raises(NarInfoError):
        parse_narinfo(text)


@given(st.text(max_size=200))
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    with pytest.raises(NarInfoError):
        parse_narinfo(text)


def test_a_path_info_with_senseless_values_is_refused() -> None:
    path = StorePath("0" * 32, "a")
    for nar_hash, size in ((sha256_of(b""), 0), (sha256_of(b""), 2**63), (Hash("sha1", b"a" * 20), 1)):
        with pytest.raises(NarInfoError):
            PathInfo(path, nar_hash, size)
