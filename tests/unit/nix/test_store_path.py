"""Store paths and content addresses: what is one, and which path follows from which content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piste.nix.content_address import ContentAddress, ContentAddressError
from piste.nix.hashes import Hash, sha256_of
from piste.nix.store_path import StorePath, StorePathError, check_name, parse_hash_part
from tests.unit.nix.strategies import hash_parts, names, sha256s, store_paths

HASH = "00000000000000000000000000000000"
PATH = StorePath(HASH, "hello-2.12")


@given(hash_parts, names)
def test_a_printed_path_reads_back_as_itself(hash_part: str, name: str) -> None:
    path = StorePath(hash_part, name)
    assert str(path) == f"/nix/store/{hash_part}-{name}"
    assert StorePath.parse(str(path)) == StorePath.from_base_name(path.base_name) == path


@given(st.lists(store_paths, max_size=10))
def test_paths_sort_as_their_texts_do(paths: list[StorePath]) -> None:
    assert [str(path) for path in sorted(paths)] == sorted(map(str, paths))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/nix/store",
        "/nix/store/",
        f"/nix/store/{HASH}",
        f"/nix/store/{HASH}-",
        f"/nix/store/{HASH}-a/",
        f"/nix/store/{HASH}-a/b",
        f"/nix/store/{HASH}-a\n",
        f" /nix/store/{HASH}-a",
        f"/nix/store//{HASH}-a",
        f"/nix/store/{HASH[1:]}-a",
        f"/nix/store/{HASH}0-a",
        f"/nix/store/{'e' * 32}-a",
        f"/nix/store/{'A' * 32}-a",
        f"/nix/store/{HASH}-.",
        f"/nix/store/{HASH}-..",
        f"/nix/store/{HASH}-.-a",
        f"/nix/store/{HASH}-..-a",
        f"/nix/store/{HASH}-a b",
        f"/nix/store/{HASH}-ä",
        f"/nix/store/{HASH}-a\0",
        f"/nix/store/{HASH}-{'a' * 212}",
        f"/nix/store/../{HASH}-a",
        f"/gnu/store/{HASH}-a",
        f"nix/store/{HASH}-a",
        f"/nix/store/{'٣' * 32}-a",
    ],
)
def test_what_is_not_a_store_path_is_refused(text: str) -> None:
    with pytest.raises(StorePathError):
        StorePath.parse(text)


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "../" + "0" * 29, "0" * 31 + "e", "0" * 32 + "\n"])
def test_a_hash_part_that_could_leave_its_folder_is_refused(text: str) -> None:
    with pytest.raises(StorePathError):
        parse_hash_part(text)


@given(st.text(max_size=5))
def test_a_name_that_is_accepted_stays_within_its_folder(text: str) -> None:
    try:
        check_name(text)
    except StorePathError:
        return
    assert "/" not in text
    assert text not in (".", "..")


def test_a_text_has_its_known_path() -> None:
    # builtins.toFile "x" "hi", and another that mentions it
    first = ContentAddress("text", sha256_of(b"hi")).store_path("x")
    assert str(first) == "/nix/store/pmif2b12nn699asgyhdxsbar2hi735fl-x"
    second = ContentAddress("text", sha256_of(f"see {first}".encode())).store_path("y", [first])
    assert str(second) == "/nix/store/80hbbviy2i439wlf4yb8n99j78lflpg6-y"


@given(st.sampled_from(["text", "flat", "nar", "git"]), sha256s)
def test_a_printed_content_address_reads_back(method: str, hash_: Hash) -> None:
    address = ContentAddress(method, hash_)  # type: ignore[arg-type]
    assert ContentAddress.parse(str(address)) == address


@given(sha256s, names, st.lists(store_paths, max_size=3))
def test_the_path_of_content_depends_on_all_that_it_refers_to(
    hash_: Hash, name: str, others: list[StorePath]
) -> None:
    address = ContentAddress("nar", hash_)
    path = address.store_path(name, others)
    assert address.names(path, others)
    assert address.store_path(name, reversed(others)) == path
    assert address.store_path(name, others, self_reference=True) != path
    assert not address.names(path, [*others, path])
    if others:
        assert not address.names(path, others[1:]) or others[0] in others[1:]


def test_content_that_refers_to_itself_is_recognised_by_its_own_path() -> None:
    address = ContentAddress("nar", sha256_of(b"content modulo itself"))
    path = address.store_path("x", self_reference=True)
    assert address.names(path, [path])
    assert not address.names(path)


@pytest.mark.parametrize(
    "text", ["", "text:", "fixed:", "fixed:r:", "r:sha256:" + "0" * 52, "text:sha256:xyz"]
)
def test_what_is_not_a_content_address_is_refused(text: str) -> None:
    with pytest.raises(ContentAddressError):
        ContentAddress.parse(text)


def test_flat_content_refers_to_nothing() -> None:
    address = ContentAddress("flat", sha256_of(b""))
    with pytest.raises(ContentAddressError, match="can have references"):
        address.store_path("x", [PATH])
    assert not address.names(PATH, [PATH])
    with pytest.raises(ContentAddressError):
        ContentAddress("text", sha256_of(b"")).store_path("x", self_reference=True)
    with pytest.raises(ContentAddressError):
        ContentAddress("text", Hash("sha1", b"a" * 20)).store_path("x")
