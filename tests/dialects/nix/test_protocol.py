"""The protocol of binary caches, item by item, as old and new clients need it; on both engines."""

import base64
import http.client
import os
from urllib.parse import urlsplit

import pytest

from piste.lib.zstd import zstd
from piste.nix.hashes import Hash, sha256_of
from piste.nix.narinfo import parse_narinfo
from piste.nix.signature import PublicKey, SecretKey
from piste.nix.store_path import StorePath
from tests.hub.conftest import shared_hub
from tests.hub.process import Answer, Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import Member, member

__all__ = ["shared_hub"]


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)


def push(acme: Acme, path: Member, **said: str) -> Answer:
    """A NAR and its narinfo, as `nix copy --to` puts them; `said` replaces lines or adds some."""
    packed = zstd.compress(path.nar)
    file_hash = sha256_of(packed)
    url = f"nar/{file_hash.base32}.nar.zst"
    assert acme.ask("PUT", f"{acme.cache}/{url}", body=packed).status == 201
    lines = {
        "StorePath": str(path.path),
        "URL": url,
        "Compression": "zstd",
        "FileHash": file_hash.nix32(),
        "FileSize": str(len(packed)),
        "NarHash": path.nar_hash.nix32(),
        "NarSize": str(len(path.nar)),
        "References": " ".join(each.base_name for each in path.references),
        **said,
    }
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
    return acme.ask("PUT", f"{acme.cache}/{path.path.hash_part}.narinfo", body=text.encode())


def lines_of(answer: Answer) -> list[str]:
    assert answer.status == 200
    text = answer.body.decode()
    assert text.endswith("\n")
    return text[:-1].split("\n")


def random_member(name: str = "app") -> Member:
    return member(name, os.urandom(8), os.urandom(2000))


def test_row_20_and_item_content_types_and_head_of_every_resource(acme: Acme) -> None:
    path = random_member()
    acme.publish("1.0.0", [path])
    log = f"log/{path.path.hash_part}-app.drv"
    assert acme.ask("PUT", f"{acme.cache}/{log}", body=b"built\n").status == 201
    for name, media in (
        ("nix-cache-info", "text/x-nix-cache-info"),
        (f"{path.path.hash_part}.narinfo", "text/x-nix-narinfo"),
        (f"{path.path.hash_part}.ls", "application/json"),
        (f"nar/{path.nar_hash.base32}.nar.zst", "application/x-nix-nar"),
        (log, "text/plain"),
    ):
        for place in (acme.cache, ""):
            got, head = (acme.ask(method, f"{place}/{name}") for method in ("GET", "HEAD"))
            assert (got.status, head.status, head.body) == (200, 200, b"")
            assert {got.headers.get_content_type(), head.headers.get_content_type()} == {media}
            assert acme.ask("HEAD", f"{place}/x{name}").status == 404


def test_item_a_narinfo_has_one_space_after_each_colon_and_references_also_where_there_are_none(
    acme: Acme,
) -> None:
    closure = chain("app", 2, os.urandom(9))
    acme.publish("1.0.0", closure)
    first, second = (lines_of(acme.narinfo(path)) for path in closure)
    assert "References: " in first
    assert f"References: {closure[0].path.base_name}" in second
    for line in (*first, *second):
        key, separator, value = line.partition(": ")
        assert separator and value == value.strip() and key.isalpha(), line
    assert "Compression: zstd" in first


def test_item_a_path_may_refer_to_itself(acme: Acme) -> None:
    path = random_member()
    assert push(acme, path, References=path.path.base_name).status == 201
    assert f"References: {path.path.base_name}" in lines_of(acme.narinfo(path))


def test_item_an_unknown_deriver_is_none(acme: Acme) -> None:
    unknown, known = random_member(), random_member()
    assert push(acme, unknown, Deriver="unknown-deriver").status == 201
    assert push(acme, known, Deriver=f"{'0' * 32}-app.drv").status == 201
    assert not any(line.startswith("Deriver") for line in lines_of(acme.narinfo(unknown)))
    assert f"Deriver: {'0' * 32}-app.drv" in lines_of(acme.narinfo(known))


def test_item_several_signatures_are_several_lines(acme: Acme) -> None:
    path = random_member()
    fingerprint = f"1;{path.path};{path.nar_hash.nix32()};{len(path.nar)};"
    foreign = [SecretKey.generate(f"somebody-{number}").sign(fingerprint) for number in range(3)]
    assert push(acme, path, Sig="\nSig: ".join(foreign)).status == 201
    found = parse_narinfo(acme.narinfo(path).body.decode()).info
    own = PublicKey.parse(
        acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}")["public_keys"][0]
    )
    assert own.verify(found.fingerprint(), found.signatures[0])
    assert list(found.signatures[1:]) == foreign
    assert sum(line.startswith("Sig: ") for line in lines_of(acme.narinfo(path))) == 4


def test_item_a_content_address_is_passed_on(acme: Acme) -> None:
    path = random_member()
    address = f"fixed:r:{path.nar_hash.nix32()}"
    assert push(acme, path, CA=address).status == 201
    assert f"CA: {address}" in lines_of(acme.narinfo(path))


@pytest.mark.parametrize("spelling", ["hex", "base64"])
def test_item_a_hash_may_come_in_any_spelling_and_goes_out_in_one(acme: Acme, spelling: str) -> None:
    path = random_member()
    digest = path.nar_hash.digest
    said = f"sha256:{digest.hex()}" if spelling == "hex" else f"sha256-{base64.b64encode(digest).decode()}"
    assert Hash.parse(said) == path.nar_hash
    assert push(acme, path, NarHash=said).status == 201
    assert f"NarHash: {path.nar_hash.nix32()}" in lines_of(acme.narinfo(path))


def test_item_names_have_all_the_signs_that_store_paths_have(acme: Acme) -> None:
    made = random_member()
    path = Member(StorePath(made.path.hash_part, "gtk+-3.0_x?y=z.tar.gz"), made.nar, ())
    assert push(acme, path).status == 201
    assert f"StorePath: {path.path}" in lines_of(acme.narinfo(path))


def test_item_what_a_narinfo_says_of_its_file_is_true_and_its_url_is_relative(acme: Acme) -> None:
    path = random_member()
    assert push(acme, path).status == 201
    for place in (acme.cache, ""):
        said = dict(
            line.split(": ", 1)
            for line in lines_of(acme.ask("GET", f"{place}/{path.path.hash_part}.narinfo"))
        )
        assert said["URL"] == f"nar/{path.nar_hash.base32}.nar.zst"
        file = acme.ask("GET", f"{place}/{said['URL']}").body
        assert said["FileSize"] == str(len(file))
        assert said["FileHash"] == sha256_of(file).nix32()


def test_item_a_nar_can_be_resumed_and_is_not_encoded_again(acme: Acme) -> None:
    path = random_member()
    acme.publish("1.0.0", [path])
    place = f"{acme.cache}/nar/{path.nar_hash.base32}.nar.zst"
    whole = acme.ask("GET", place, headers={"Accept-Encoding": "deflate, gzip, br, zstd"})
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-length"] == str(len(whole.body))
    assert "content-encoding" not in whole.headers
    rest = acme.ask("GET", place, headers={"Range": "bytes=100-", "Accept-Encoding": "zstd"})
    assert (rest.status, rest.body) == (206, whole.body[100:])
    assert rest.headers["content-range"] == f"bytes 100-{len(whole.body) - 1}/{len(whole.body)}"


def test_item_a_push_is_asked_for_first_and_is_there_at_once(acme: Acme) -> None:
    """The order of a stock client; nothing it learns on the way keeps it from what comes next."""
    path = random_member()
    name = f"{acme.cache}/{path.path.hash_part}.narinfo"
    assert acme.ask("GET", f"{acme.cache}/nix-cache-info").status == 200
    assert [acme.ask(method, name).status for method in ("GET", "HEAD")] == [404, 404]
    assert push(acme, path).status == 201
    assert [acme.ask(method, name).status for method in ("GET", "HEAD")] == [200, 200]
    assert push(acme, path).status == 201
    assert acme.ask("PUT", f"{acme.cache}/nix-cache-info", body=b"StoreDir: /nix/store\n").status == 200
    assert acme.ask("PUT", f"{acme.cache}/{path.path.hash_part}.ls", body=b"{}").status == 200


def test_item_a_put_may_wait_for_100_continue_and_be_chunked_and_carry_basic(acme: Acme) -> None:
    """Nix 2.8 waits; a netrc becomes Basic, unasked."""
    path = random_member()
    packed = zstd.compress(path.nar)
    basic = base64.b64encode(f"anybody:{acme.member}".encode()).decode()
    place = f"{acme.cache}/nar/{sha256_of(packed).base32}.nar.zst"
    connection = http.client.HTTPConnection(urlsplit(acme.hub.url).netloc, timeout=30)
    try:
        connection.putrequest("PUT", place, skip_accept_encoding=True)
        for key, value in (
            ("Authorization", f"Basic {basic}"),
            ("Expect", "100-continue"),
            ("Transfer-Encoding", "chunked"),
        ):
            connection.putheader(key, value)
        connection.endheaders()
        for piece in (packed[:700], packed[700:]):
            connection.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.getresponse().status == 201
    finally:
        connection.close()
    assert acme.ask("HEAD", place).status == 200


@pytest.mark.parametrize("name", ["x.narinfo", "nar/x.nar.xz", f"{'0' * 32}.ls", f"nar/{'0' * 52}.nar.zst"])
def test_item_what_is_not_there_is_404_for_everybody(acme: Acme, name: str) -> None:
    for place in (acme.cache, ""):
        for token in (acme.member, None):
            for method in ("GET", "HEAD"):
                assert acme.hub.request(method, f"{place}/{name}", token=token).status == 404
