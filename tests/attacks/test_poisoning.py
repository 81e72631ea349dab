"""A publisher that uploads other content under a path that somebody else holds changes nothing for them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from piste.lib.zstd import zstd
from piste.nix.store_path import StorePath
from tests.attacks.answers import declare, finish, publication, put_nar, put_narinfo, upload
from tests.hub.process import Hub
from tests.running.closures import Member, file_nar, frame, make_source, new_path
from tests.running.command import Person
from tests.running.nix import build, configured, content, copy_from, copy_to, has, plant, substitute
from tests.running.tenants import Tenant

GOOD, EVIL = "the real tool\n", "a tool that phones home\n"


@pytest.fixture(scope="module")
def tool(acme: Tenant, tmp_path_factory: pytest.TempPathFactory) -> StorePath:
    """Acme's own path, built and pushed with Nix."""
    person = Person(tmp_path_factory.mktemp("acme"))
    built = build(person, """tool = run "tool" "echo the real tool > $out";""", "tool")
    pushing = configured(person, acme.hub.url, acme.token, [])
    assert copy_to(pushing, acme.cache_url, built).code == 0
    return StorePath.parse(built)


@pytest.fixture(scope="module")
def poisoned(rival: Tenant, tool: StorePath, tmp_path_factory: pytest.TempPathFactory) -> StorePath:
    """The same path in the rival's project, with other content, pushed with Nix."""
    person = configured(Person(tmp_path_factory.mktemp("rival")), rival.hub.url, rival.token, [])
    plant(person, Member(tool, file_nar(EVIL.encode()), ()))
    done = copy_to(person, rival.cache_url, str(tool))
    assert done.code == 0, done.stderr
    return tool


@pytest.fixture
def both(hub: Hub) -> str:
    """The token of somebody who may read both organizations."""
    return hub.admin


@pytest.mark.parametrize("get", [copy_from, substitute])
def test_poisoning_by_a_rival_leaves_acmes_hosts_acmes_bytes(
    acme: Tenant, poisoned: StorePath, tmp_path: Path, get: Callable[..., object]
) -> None:
    for place in (acme.cache_url, acme.hub.url):
        host = configured(
            Person(tmp_path / place[-5:].replace("/", "")), acme.hub.url, acme.token, [acme.key]
        )
        get(host, place, str(poisoned))
        assert content(host, str(poisoned)) == GOOD


def test_the_rivals_project_gives_the_rivals_bytes_to_the_rivals_hosts_alone(
    acme: Tenant, rival: Tenant, poisoned: StorePath, tmp_path: Path
) -> None:
    for place in (rival.cache_url, rival.hub.url):
        own = configured(Person(tmp_path / place[-3:]), rival.hub.url, rival.token, [rival.key])
        assert copy_from(own, place, str(poisoned)).code == 0
        assert content(own, str(poisoned)) == EVIL
    answer = acme.hub.request("GET", f"{rival.cache_path}/{poisoned.hash_part}.narinfo", token=acme.token)
    assert answer.status == 404


def test_a_host_of_acme_that_is_pointed_at_the_rivals_cache_refuses_its_signature(
    acme: Tenant, rival: Tenant, both: str, poisoned: StorePath, tmp_path: Path
) -> None:
    for number, get in enumerate((copy_from, substitute)):
        host = configured(Person(tmp_path / str(number)), acme.hub.url, both, [acme.key])
        assert get(host, rival.cache_url, str(poisoned)).code != 0
        assert not has(host, str(poisoned))


def test_the_root_answers_404_to_who_reads_both(
    acme: Tenant, rival: Tenant, both: str, poisoned: StorePath, tmp_path: Path
) -> None:
    answer = acme.hub.request("GET", f"/{poisoned.hash_part}.narinfo", token=both)
    assert (answer.status, answer.ref) == (404, "not-found")
    host = configured(Person(tmp_path), acme.hub.url, both, [acme.key, rival.key])
    assert copy_from(host, acme.hub.url, str(poisoned)).code != 0
    assert not has(host, str(poisoned))
    # What only one of them holds is still there for who reads both.
    other = build(host, """other = run "other" "echo other > $out";""", "other")
    assert copy_to(configured(host, acme.hub.url, acme.token, []), acme.cache_url, other).code == 0
    assert acme.hub.request("GET", f"/{other[11:43]}.narinfo", token=both).status == 200


def test_in_the_same_organization_a_push_with_nix_is_a_conflict_and_changes_nothing(
    acme: Tenant, tool: StorePath, tmp_path: Path
) -> None:
    second = acme.another_project("second")
    insider = configured(Person(tmp_path / "insider"), acme.hub.url, acme.token, [])
    plant(insider, Member(tool, file_nar(EVIL.encode()), ()))
    done = copy_to(insider, second.cache_url, str(tool))
    assert done.code != 0
    assert "path-conflict" in done.stderr, done.stderr
    for project in (acme, second):
        host = configured(Person(tmp_path / project.project), acme.hub.url, acme.token, [acme.key])
        found = copy_from(host, project.cache_url, str(tool)).code == 0
        assert found == (project is acme)
    assert content(Person(tmp_path / acme.project), str(tool)) == GOOD


def test_in_the_same_organization_a_publication_takes_what_the_organization_has(
    acme: Tenant, tool: StorePath
) -> None:
    third = acme.another_project("third")
    evil = Member(tool, file_nar(EVIL.encode()), ())
    address = publication(third, "1.0.0")
    assert declare(third, address, [evil], evil).json()["missing"] == []
    assert upload(third, address, evil.frame).status == 422  # nobody asked for these bytes
    assert finish(third, address, make_source("third")).status == 200
    served = acme.hub.request("GET", f"{third.cache_path}/{tool.hash_part}.narinfo", token=acme.token)
    assert evil.nar_hash.nix32() not in served.body.decode()
    original = acme.hub.request("GET", f"{acme.cache_path}/{tool.hash_part}.narinfo", token=acme.token)
    assert served.body == original.body


def test_of_two_open_publications_with_other_content_the_second_to_finish_is_refused(acme: Tenant) -> None:
    path = new_path("raced", "raced")
    members = [Member(path, file_nar(text), ()) for text in (b"first", b"second")]
    fourth, fifth = acme.another_project("fourth"), acme.another_project("fifth")
    addresses = [publication(fourth, "1.0.0"), publication(fifth, "1.0.0")]
    for tenant, address, each in zip((fourth, fifth), addresses, members, strict=True):
        assert declare(tenant, address, [each], each).json()["missing"] == [path.base_name]
        assert upload(tenant, address, each.frame).status == 200
    assert finish(fourth, addresses[0], make_source("x")).status == 200
    refused = finish(fifth, addresses[1], make_source("x"))
    assert (refused.status, refused.ref) == (409, "path-conflict")
    assert path.hash_part in refused.body.decode()
    assert acme.hub.request("GET", f"{fifth.api}/releases/1", token=acme.token).status == 404
    narinfo = f"{fifth.cache_path}/{path.hash_part}.narinfo"
    assert acme.hub.request("GET", narinfo, token=acme.token).status == 404


def test_a_path_that_the_project_has_is_not_replaced_by_putting_it_again(
    acme: Tenant, tool: StorePath
) -> None:
    evil = Member(tool, file_nar(EVIL.encode()), ())
    assert put_nar(acme, evil).status == 201
    refused = put_narinfo(acme, evil)
    assert (refused.status, refused.ref) == (409, "path-conflict")
    served = acme.hub.request("GET", f"{acme.cache_path}/{tool.hash_part}.narinfo", token=acme.token)
    assert evil.nar_hash.nix32() not in served.body.decode()


def test_a_nar_that_many_share_can_not_be_made_a_huge_file_by_who_brings_it_first(rival: Tenant) -> None:
    common = Member(new_path("common", "common"), file_nar(b"what many organizations have"), ())
    address = publication(rival, "7.0.0")
    declare(rival, address, [common], common)
    # A frame that every decompressor skips, and that would be sent to all of them.
    junk = (0x184D2A50).to_bytes(4, "little") + (4 << 20).to_bytes(4, "little") + bytes(4 << 20)
    whole = zstd.compress(common.nar)
    for data in (junk + whole, whole + junk, zstd.compress(b"") * 400_000 + whole):
        refused = upload(rival, address, frame(common.nar_hash, data))
        assert (refused.status, refused.ref) == (422, "bad-nar")
    put = f"{rival.cache_path}/nar/{common.nar_hash.base32}.nar.zst"
    assert rival.hub.request("PUT", put, token=rival.token, body=junk + whole).status == 422
    assert upload(rival, address, common.frame).status == 200
