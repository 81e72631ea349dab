"""A hub that fails inside never breaks a Nix that has a second cache, and little of it is remembered."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dialects.nix.conftest import PATIENCE, VERSIONS, Faulty
from tests.hub.process import wait_for
from tests.running.command import Finished, Person
from tests.running.nix import RUN, copy_from, has

DATABASE = ["database-error", "database-hangs"]
NARS = ["nar-error", "nar-missing", "nar-cut", "nar-short", "nar-stalls", "nar-wrong"]


@pytest.fixture(autouse=True)
def mended(faulty: Faulty) -> Iterator[None]:
    faulty.mend()
    yield
    faulty.mend()


def realise(host: Person, path: str, caches: str) -> Finished:
    return host.run("nix-store", "--realise", path, "--option", "substituters", caches)


def acquaint(host: Person, faulty: Faulty) -> None:
    """Let the host learn that the hub is a cache, which it remembers for a week."""
    realise(host, "/nix/store/00000000000000000000000000000000-nothing", faulty.caches(second=False))


def narinfos(faulty: Faulty) -> list[int]:
    """What look-ups were answered with so far."""
    lines = faulty.tenant.hub.log_lines("request")
    return [line["status"] for line in lines if line["route"].endswith("{hash}.narinfo")]


@pytest.mark.parametrize("fault", DATABASE)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_narinfo_that_fails_sends_nix_to_the_second_cache(
    faulty: Faulty, tmp_path: Path, version: str, fault: str
) -> None:
    host = faulty.host(tmp_path, version)
    acquaint(host, faulty)
    faulty.break_it(fault)
    before = len(narinfos(faulty))
    done = realise(host, faulty.path, faulty.caches())
    assert done.code == 0, done.stderr
    assert has(host, faulty.path)
    wait_for(lambda: narinfos(faulty)[before:] == [404])


@pytest.mark.parametrize("hub_first", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_path_that_no_cache_has_is_built_while_narinfos_fail(
    faulty: Faulty, tmp_path: Path, version: str, hub_first: bool
) -> None:
    host = faulty.host(tmp_path, version)
    acquaint(host, faulty)
    faulty.break_it("database-error")
    new = f"""let {RUN} new = run "new" "echo {version} {hub_first} > $out"; in new"""
    caches = faulty.caches(hub_first=hub_first)
    done = host.run("nix-build", "--no-out-link", "--expr", new, "--option", "substituters", caches)
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("fault", NARS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_nar_that_fails_sends_nix_to_the_second_cache(
    faulty: Faulty, tmp_path: Path, version: str, fault: str
) -> None:
    host = faulty.host(tmp_path, version, **{"stalled-download-timeout": "1"})
    faulty.break_it(fault)
    done = realise(host, faulty.path, faulty.caches())
    assert done.code == 0, done.stderr
    assert has(host, faulty.path)
    # The hub was asked first; it came from the other.
    assert faulty.tenant.cache_url in done.stderr
    assert f"from '{faulty.second}" in done.stderr


@pytest.mark.parametrize("fault", [fault for fault in NARS if fault != "nar-stalls"])
def test_a_nar_that_fails_is_no_reason_to_keep_anything_of_it(
    faulty: Faulty, tmp_path: Path, fault: str
) -> None:
    host = faulty.host(tmp_path, "forky")
    faulty.break_it(fault)
    assert realise(host, faulty.path, faulty.caches(second=False)).code != 0
    assert not has(host, faulty.path)
    faulty.mend()
    done = realise(host, faulty.path, faulty.caches(second=False))
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_a_nar_that_is_cut_is_resumed_where_it_broke_off(
    faulty: Faulty, tmp_path: Path, version: str
) -> None:
    host = faulty.host(tmp_path, version, **{"download-attempts": "5"})
    faulty.break_it("nar-cut")
    timer = threading.Timer(0.6, faulty.mend)
    timer.start()
    done = realise(host, faulty.path, faulty.caches(second=False))
    timer.join()
    assert done.code == 0, done.stderr
    assert faulty.tenant.hub.log_lines("request")[-1]["status"] == 206


@pytest.mark.parametrize("version", VERSIONS)
def test_a_hub_that_fails_as_nix_begins_is_left_out(faulty: Faulty, tmp_path: Path, version: str) -> None:
    host = faulty.host(tmp_path, version)
    faulty.break_it("database-error")
    done = realise(host, faulty.path, faulty.caches())
    assert done.code == 0, done.stderr
    faulty.mend()
    # Nothing of that is remembered.
    again = faulty.host(tmp_path / "again", version)
    again.extra = {**again.extra, "HOME": host.environment["HOME"]}
    got = realise(again, faulty.path, faulty.caches(second=False))
    assert got.code == 0, got.stderr


@pytest.mark.parametrize("fault", DATABASE)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_short_fault_of_a_narinfo_is_waited_out_and_nobody_notices(
    faulty: Faulty, tmp_path: Path, version: str, fault: str
) -> None:
    host = faulty.host(tmp_path, version)
    acquaint(host, faulty)
    faulty.break_it(fault)
    timer = threading.Timer(PATIENCE / 2, faulty.mend)
    timer.start()
    done = realise(host, faulty.path, faulty.caches(second=False))
    timer.join()
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_a_long_fault_is_remembered_unless_nix_is_told_not_to(
    faulty: Faulty, tmp_path: Path, version: str
) -> None:
    """What docs/decisions/0015 says; should a Nix not remember it any more, this can go."""
    for name, remembers, settings in (
        ("by itself", True, {}),
        ("told", False, {"narinfo-cache-negative-ttl": "0"}),
    ):
        host = faulty.host(tmp_path / name, version, **settings)
        acquaint(host, faulty)
        faulty.break_it("database-error")
        assert realise(host, faulty.path, faulty.caches(second=False)).code != 0
        faulty.mend()
        done = realise(host, faulty.path, faulty.caches(second=False))
        assert (done.code != 0) is remembers, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_a_credential_that_is_none_sends_nix_to_the_second_cache(
    faulty: Faulty, tmp_path: Path, version: str
) -> None:
    host = faulty.host(tmp_path, version)
    acquaint(host, faulty)
    netrc = host.folder / "netrc"
    netrc.write_text(netrc.read_text().replace("password ", "password x"))
    done = realise(host, faulty.path, faulty.caches())
    assert done.code == 0, done.stderr
    # 401 would stop Nix 2.35.
    hash_part = faulty.path[11:43]
    tenant = faulty.tenant
    for place in (tenant.cache_path, ""):
        for client, status in (("curl/8.20.0 Nix/2.35.2", 403), ("curl/8.20.0", 401)):
            answer = tenant.hub.request(
                "GET", f"{place}/{hash_part}.narinfo", token="nonsense", headers={"User-Agent": client}
            )
            assert answer.status == status
    assert tenant.hub.request("GET", f"{tenant.cache_path}/nix-cache-info", token="nonsense").status == 401


def test_a_copy_of_a_path_goes_on_from_the_second_cache(faulty: Faulty, tmp_path: Path) -> None:
    host = faulty.host(tmp_path, "forky")
    faulty.break_it("database-error")
    assert copy_from(host, faulty.tenant.cache_url, "--no-check-sigs", faulty.path).code != 0
    done = copy_from(host, faulty.second, "--no-check-sigs", faulty.path)
    assert done.code == 0, done.stderr


def test_a_push_that_fails_says_that_the_hub_failed(faulty: Faulty, tmp_path: Path) -> None:
    """Only a look-up of a path is answered as if it were missing."""
    tenant = faulty.tenant
    faulty.break_it("database-error")
    place = f"{tenant.cache_path}/{faulty.path[11:43]}.narinfo"
    assert tenant.hub.request("PUT", place, token=tenant.token, body=b"x").status == 500
    assert tenant.hub.request("GET", place, token=tenant.token).status == 404
    assert tenant.hub.request("HEAD", place, token=tenant.token).status == 404
