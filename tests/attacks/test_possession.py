"""To know the hash of a NAR is no proof of having it: nothing becomes readable without its bytes."""

from pathlib import Path

import pytest

from piste.lib.zstd import zstd
from piste.nix.hashes import sha256_of
from piste.nix.store_path import StorePath
from tests.attacks.answers import (
    declare,
    finish,
    looks_at,
    narinfo_of,
    publication,
    seen,
    upload,
    words_of,
)
from tests.running.closures import Member, digest_of, file_nar, frame, make_source, member, new_path, publish
from tests.running.command import Person
from tests.running.nix import configured, copy_from, has
from tests.running.tenants import Tenant


@pytest.fixture(scope="module")
def treasure(acme: Tenant) -> Member:
    """What acme alone has; the rival knows its path, its hash and its size, and none of its bytes."""
    made = member("treasure", "acme's", b"the secret of the sauce\n" * 1000)
    with acme.client() as client:
        publish(client, acme.organization, acme.project, "1.0.0", [made])
    return made


def _without_bytes(known: Member, path: StorePath) -> Member:
    """A path that is said to have a NAR of the same size."""
    return Member(path, known.nar, ())


@pytest.mark.parametrize("own_name", [False, True])
def test_possession_by_hash_is_none_the_bytes_have_to_follow(
    rival: Tenant, treasure: Member, own_name: bool
) -> None:
    path = new_path("mine", "a name of the rival's own") if own_name else treasure.path
    claimed = _without_bytes(treasure, path)
    address = publication(rival, f"1.0.{int(own_name)}")
    answer = declare(rival, address, [claimed], claimed)
    assert answer.json() == {"missing": [path.base_name], "present": 0, "pinned": 0}
    refused = finish(rival, address, make_source("x"))
    assert (refused.status, refused.ref) == (409, "output-incomplete")
    nothing = new_path("nothing", "at all")
    assert looks_at(rival, path, treasure.nar_hash) == looks_at(rival, nothing, sha256_of(b"nothing at all"))


def test_an_upload_under_the_hash_must_have_it(rival: Tenant, treasure: Member) -> None:
    claimed = _without_bytes(treasure, new_path("mine", "an upload"))
    address = publication(rival, "1.1.0")
    declare(rival, address, [claimed], claimed)
    same_size = file_nar(bytes(len(treasure.nar) - len(file_nar(b""))))
    assert len(same_size) == len(treasure.nar)
    for data in (zstd.compress(same_size), b"", bytes(100), zstd.compress(b"")):
        refused = upload(rival, address, frame(treasure.nar_hash, data))
        assert refused.status == 422, refused.body
    assert finish(rival, address, make_source("x")).status == 409


def test_a_stock_client_can_not_describe_a_nar_that_it_did_not_put(rival: Tenant, treasure: Member) -> None:
    answers = []
    for nar_hash in (treasure.nar_hash, sha256_of(digest_of("nobody has a NAR of this hash"))):
        claimed = _without_bytes(treasure, new_path("mine", "a narinfo"))
        words = words_of(claimed.path, nar_hash)
        for suffix in (".nar", ".nar.zst"):
            text = narinfo_of(claimed).decode().replace(treasure.nar_hash.base32, nar_hash.base32)
            text = text.replace(".nar\n", suffix + "\n")
            put = rival.hub.request(
                "PUT",
                f"{rival.cache_path}/{claimed.path.hash_part}.narinfo",
                token=rival.token,
                body=text.encode(),
            )
            head = rival.hub.request(
                "HEAD", f"{rival.cache_path}/nar/{nar_hash.base32}{suffix}", token=rival.token
            )
            answers.append((seen(put, *words), head.status))
            assert (put.status, head.status) == (422, 404), put.body
    assert answers[:2] == answers[2:]


def test_with_the_bytes_it_is_the_rivals_own_and_without_them_nix_gets_nothing(
    acme: Tenant, rival: Tenant, treasure: Member, tmp_path: Path
) -> None:
    attacker = configured(Person(tmp_path / "1"), rival.hub.url, rival.token, [acme.key, rival.key])
    assert copy_from(attacker, rival.cache_url, str(treasure.path)).code != 0
    with rival.client() as client:
        publish(client, rival.organization, rival.project, "2.0.0", [treasure])
    assert copy_from(attacker, rival.cache_url, str(treasure.path)).code == 0
    assert has(attacker, str(treasure.path))
