"""A host asks once, says what it has, and gets only what it lacks; what it remembers need not be true."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.attacks.liar import Liar, running_liar
from tests.hub.process import Hub
from tests.running.closures import ATTRIBUTE, Member, make_closure, member, publish
from tests.running.command import Finished, Person, check
from tests.running.tenants import Tenant, make_tenant


@dataclass
class Versions:
    """Two releases that have most of their paths in common, behind a proxy that writes down what is asked."""

    tenant: Tenant
    first: list[Member]
    second: list[Member]
    new: int  # paths of the second that the first has not
    proxy: Liar


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        tenant = make_tenant(hub.start(), "acme", "web")
        base = make_closure(1, paths=40, size=4000)
        changed = make_closure(2, paths=3, size=4000, base=base[5])
        tops = [
            member("system", number, b"", [each.path for each in members])
            for number, members in enumerate((base, [*base, *changed]))
        ]
        first, second = [*base, tops[0]], [*base, *changed[1:], tops[1]]
        with tenant.client() as client:
            publish(client, "acme", "web", "1.0.0", first)
            publish(client, "acme", "web", "1.1.0", second)
        with running_liar(hub.url) as proxy:
            yield Versions(tenant, first, second, 4, proxy)
    finally:
        hub.close()


@pytest.fixture
def host(versions: Versions, tmp_path: Path) -> Person:
    versions.proxy.honest()
    person = Person(tmp_path, hub=versions.proxy.url, token=versions.tenant.token)
    person.extra = {"PISTE_TRUSTED_PUBLIC_KEYS": str(versions.tenant.key)}
    return person


def _fetch(person: Person, requirement: str) -> Finished:
    link = str(person.folder / "result")
    return person.succeed("fetch", f"acme/web/{requirement}#{ATTRIBUTE}", link, "--json")


def _memory(person: Person) -> Path:
    return person.root / "var/cache/piste/releases"


def test_one_request_tells_all_before_the_nars_come(versions: Versions, host: Person) -> None:
    assert _fetch(host, "=1.0.0").json["paths_fetched"] == len(versions.first)
    asked = versions.proxy.asked
    assert "/plan/" in asked[0]
    assert all("/nars?places=" in path or "/nar/" in path for path in asked[1:])


def test_an_update_names_the_release_that_is_there_and_gets_the_rest(
    versions: Versions, host: Person
) -> None:
    _fetch(host, "=1.0.0")
    versions.proxy.asked.clear()
    assert _fetch(host, "1").json["paths_fetched"] == versions.new
    assert "have=" in versions.proxy.asked[0]
    assert len(versions.proxy.asked) == 2


def test_a_stable_host_asks_one_small_question(versions: Versions, host: Person) -> None:
    before = _fetch(host, "1").json
    versions.proxy.asked.clear()
    sizes: list[int] = []

    def note(path: str, body: bytes) -> bytes:
        sizes.append(len(body))
        return body

    versions.proxy.lie = note
    again = _fetch(host, "1").json
    assert (again["store_path"], again["paths_fetched"]) == (before["store_path"], 0)
    assert again["bytes_full"] == before["bytes_full"]
    assert (len(versions.proxy.asked), sizes) == (1, [0])


def test_a_host_whose_paths_were_deleted_meanwhile_gets_them_again(versions: Versions, host: Person) -> None:
    _fetch(host, "1")
    (host.folder / "result").unlink()
    check(host.run("nix-store", "--gc"))
    assert _fetch(host, "1").json["paths_fetched"] == len(versions.second)


def test_a_path_that_alone_was_lost_is_fetched_though_nothing_has_changed(
    versions: Versions, host: Person
) -> None:
    _fetch(host, "1")
    top = str(versions.second[-1].path)
    lost = [path for path in check(host.run("nix-store", "-qR", top)).split() if path != top][-1]
    # As a crash may leave it: the folder is there, and Nix does not know the path.
    (host.folder / "result").unlink()
    check(host.run("nix-store", "--delete", top))
    check(host.run("nix-store", "--delete", lost))
    (host.root / top.lstrip("/")).write_text("not what it was")
    done = _fetch(host, "1")
    assert done.json["paths_fetched"] == 2
    assert (host.root / top.lstrip("/")).read_text() != "not what it was"


def test_a_host_that_runs_no_release_tells_what_is_in_its_store(versions: Versions, host: Person) -> None:
    _fetch(host, "=1.0.0")
    for file in _memory(host).iterdir():
        file.unlink()
    versions.proxy.asked.clear()
    assert _fetch(host, "1").json["paths_fetched"] == versions.new
    assert "have=" not in versions.proxy.asked[0]
    assert len(versions.proxy.asked) == 2


@pytest.mark.parametrize("what", ["notes.json", "*.manifest", "all"])
def test_a_damaged_memory_is_only_forgotten(versions: Versions, host: Person, what: str) -> None:
    _fetch(host, "=1.0.0")
    for file in _memory(host).glob("*" if what == "all" else what):
        file.write_bytes(b'{"newest_first": 7}')
    assert _fetch(host, "1").json["paths_fetched"] == versions.new
    assert _fetch(host, "1").json["paths_fetched"] == 0


def test_what_is_remembered_stays_bounded_and_holds_no_token(versions: Versions, host: Person) -> None:
    for requirement in ("=1.0.0", "1", "~1.0", "*", ">=1", "<2", "=1.1.0", "1.1"):
        _fetch(host, requirement)
    files = list(_memory(host).iterdir())
    assert len(files) <= 3
    assert not any(b"piste_closure_" in file.read_bytes() for file in files)
