"""Whole commands of `fh`: the requests of each in the order in which it sends them, and what it makes of the
answers. What Nix does for it is done by Nix."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from piste.host.place import system_type
from tests.dialects.fh.client import Fh, FoundVersion, Metadata, Output, OwnersProject, Release, TokenStatus
from tests.dialects.fh.conftest import ROLLING, World
from tests.hub.process import Answer, Hub
from tests.running.closures import ATTRIBUTE
from tests.running.command import Finished, Person, check
from tests.running.nix import closure, content, has, write_flake
from tests.running.tenants import Tenant, make_tenant

FLAKES = ["--extra-experimental-features", "nix-command flakes"]
FRESH = ["--option", "narinfo-cache-negative-ttl", "0"]
# A home, with what it refers to, and beside it something that is no part of it.
DEFINITIONS = """
  library = run "library" "echo the library > $out";
  home = run "home" "echo ${library} > $out";
  notes = run "notes" "echo for people > $out";
"""
HOME = "homeConfigurations.ada"


def test_gotcha_25_a_login_is_one_request_and_leaves_a_netrc_that_names_hosts_alone(
    world: World, tmp_path: Path
) -> None:
    assert world.member.status().read(TokenStatus).gh_name
    # The lines that `fh login` writes: the same host three times where everything is one server.
    host = urlsplit(world.hub.url).hostname
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {host} login flakehub password {world.acme.member}\n" * 3)
    person = Person(tmp_path, extra={"NIX_CONFIG": f"netrc-file = {netrc}\ndownload-attempts = 1"})
    url = f"{world.hub.url}/f/{world.vault}/1.tar.gz"
    locked = check(person.run("nix", *FLAKES, "flake", "metadata", "--json", url))
    assert json.loads(locked)["revision"] == "a" * 40
    assert world.nobody.status().status == 401


def test_list_follows_an_owner_down_to_the_versions_of_a_flake(world: World) -> None:
    owners = world.member.list_orgs()
    assert {"name": world.org} in json.loads(owners.body)
    projects = world.member.list_flakes(world.org).read(list[OwnersProject])
    flake = f"{projects[-1].organization_name}/{projects[-1].name}"
    releases = world.member.list_releases(flake).read(list[Release])
    versions = world.member.list_versions(flake, "*").read(list[FoundVersion])
    assert {row.version for row in versions} < {row.version for row in releases}
    assert world.member.list_versions(flake, "9").body == b"[]"


def test_add_writes_an_address_that_nix_locks(world: World, tmp_path: Path) -> None:
    person = Person(tmp_path, extra={"NIX_CONFIG": "download-attempts = 1"})
    for requirement in (None, "1", ROLLING.partition("+")[0]):
        found = world.nobody.metadata(world.web, requirement).read(Metadata)
        assert found.project == "web"
        url = found.pretty_download_url.removesuffix(".tar.gz")
        metadata = json.loads(check(person.run("nix", *FLAKES, "flake", "metadata", "--json", url)))
        assert f"/{found.version.replace('+', '%2B')}/" in metadata["locked"]["url"]


def test_convert_takes_what_is_not_there_as_not_being_there(world: World) -> None:
    assert world.nobody.metadata("nixos/nixpkgs", "0.1.0").status == 404
    found = world.nobody.metadata(world.web.lower(), "1.0.0").read(Metadata)
    assert found.pretty_download_url.endswith("/web/1.10.0.tar.gz")


def test_eject_learns_the_repository_and_the_revision(world: World) -> None:
    tagged = world.nobody.metadata(world.web, "1.10.0.tar.gz").read(Metadata)
    assert (tagged.source_github_owner_repo_pair, tagged.version) == ("acme-inc/pad", "1.10.0")
    rolling = world.nobody.metadata(world.web, "0.1").read(Metadata)
    assert rolling.version.endswith("+rev-" + "d" * 40)
    assert rolling.source_github_owner_repo_pair == world.web


def test_resolve_takes_addresses_apart_by_itself(world: World) -> None:
    # `fh` strips the address of the front page and `/f/` before it asks.
    found = world.nobody.resolve(f"{world.web}/1#{ATTRIBUTE}").read(Output)
    assert found.token is None
    assert found.store_path == world.paths[ATTRIBUTE]


def ask(world: World, method: str, place: str, *, token: str | None = None, json: object = None) -> Answer:
    return world.hub.request(method, f"/orgs/{world.org}/{place}", token=token or world.hub.admin, json=json)


def listed(world: World) -> list[str]:
    rows = json.loads(ask(world, "GET", "device_tokens").body)
    return [row["uuid_v7"] for row in rows]


def test_token_device_of_an_unreleased_branch_makes_lists_and_ends_tokens(world: World) -> None:
    before = listed(world)
    made = ask(world, "POST", "device_token", json={"description": "a laptop"})
    assert (made.status, made.headers["cache-control"]) == (200, "no-store")
    token, identifier = made.json()["token"], made.json()["actor_id"]
    assert Fh(world.hub.url, token).status().read(TokenStatus).gh_name == world.org
    assert listed(world) == [identifier, *before]
    assert ask(world, "POST", f"device_token/{identifier}/revoke").status == 200
    assert Fh(world.hub.url, token).status().status == 401
    assert listed(world) == before


def test_nobody_else_does_and_no_other_token_ends_so(world: World) -> None:
    for token, status in ((world.acme.member, 403), (world.rival.member, 404)):
        answer = ask(world, "POST", "device_token", token=token, json={"description": "mine"})
        assert (answer.status, type(answer.json())) == (status, str)
    world.hub.make_token(world.org, kind="user", person=f"{world.org}-publisher")
    tokens = world.hub.as_admin("GET", f"/api/v1/organizations/{world.org}/tokens")
    other = next(each["id"] for each in tokens if each["kind"] == "user")
    assert ask(world, "POST", f"device_token/{other}/revoke").status == 404
    assert ask(world, "POST", "device_token", json={"description": " "}).status == 400


@dataclass(frozen=True)
class Published:
    """What `piste publish` made of a flake with a home, and a token for that home alone."""

    tenant: Tenant
    token: str
    home: str
    library: str
    notes: str


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    try:
        tenant = make_tenant(hub.start(), "acme", "homes")
        person = Person(tmp_path_factory.mktemp("publisher"), hub=hub.url, token=tenant.token)
        packages = f"packages.{system_type()} = {{ inherit notes; }};"
        outputs = f"homeConfigurations.ada.activationPackage = home; {packages}"
        folder = write_flake(person, person.folder / "flake", DEFINITIONS, outputs)
        done = person.succeed("publish", str(folder), "--name", tenant.name, "--version", "1.0.0", "--json")
        made = done.json["outputs"]
        library = next(path for path in closure(person, made[HOME]) if path.endswith("-library"))
        notes = made[f"packages.{system_type()}.notes"]
        yield Published(tenant, tenant.resolve_only("1", HOME), made[HOME], library, notes)
    finally:
        hub.close()


@dataclass(frozen=True)
class Machine:
    """A machine with `fh` on it, in which the hub's key is trusted or not."""

    published: Published
    person: Person

    def resolve(self) -> Output:
        tenant = self.published.tenant
        fh = Fh(tenant.hub.url, self.published.token)
        return fh.resolve(f"{tenant.name}/1#{HOME}", include_token=True).read(Output)

    def copy(self, found: Output, *more: str) -> Finished:
        """As `fetch` and `apply` have Nix copy: with a netrc of one line, for this one command."""
        url = self.published.tenant.hub.url
        netrc = self.person.folder / "netrc"
        netrc.touch(mode=0o600)
        netrc.write_text(f"machine {urlsplit(url).hostname} login flakehub password {found.token}\n")
        argv = [*FLAKES, "copy", *FRESH, "--from", url, found.store_path, *more, "--netrc-file", str(netrc)]
        done = self.person.run("nix", *argv)
        netrc.unlink()
        return done


def machine(folder: Path, published: Published, *, trusted: bool = True) -> Machine:
    keys = str(published.tenant.key) if trusted else ""
    config = f"trusted-public-keys = {keys}\ndownload-attempts = 1\nsubstituters ="
    return Machine(published, Person(folder, extra={"NIX_CONFIG": config}))


def test_fetch_copies_one_closure_and_leaves_a_root(published: Published, tmp_path: Path) -> None:
    there = machine(tmp_path, published)
    found = there.resolve()
    assert (found.attribute_path, found.store_path) == (HOME, published.home)
    link = tmp_path / "result"
    check(there.copy(found, "--out-link", str(link)))
    assert os.readlink(link) == published.home
    assert content(there.person, published.home) == f"{published.library}\n"
    assert content(there.person, published.library) == "the library\n"
    assert not has(there.person, published.notes)


def test_gotcha_23_apply_copies_then_builds_nothing_and_sets_a_profile(
    published: Published, tmp_path: Path
) -> None:
    there = machine(tmp_path, published)
    check(there.copy(there.resolve()))
    profile = tmp_path / "profile"
    argv = ["build", "--no-link", "--print-build-logs", "--max-jobs", "0", *FRESH]
    check(there.person.run("nix", *FLAKES, *argv, "--profile", str(profile), published.home))
    assert (profile.parent / os.readlink(profile)).readlink() == Path(published.home)


def test_gotcha_24_without_the_organizations_key_nothing_is_copied(
    published: Published, tmp_path: Path
) -> None:
    there = machine(tmp_path, published, trusted=False)
    done = there.copy(there.resolve())
    assert done.code != 0
    assert "lacks a signature by a trusted key" in done.stderr
    assert not has(there.person, published.library)


def test_the_token_of_a_fetch_reads_nothing_else(published: Published, tmp_path: Path) -> None:
    there = machine(tmp_path, published)
    found = there.resolve()
    other = Output(found.attribute_path, published.notes, found.token)
    assert there.copy(other).code != 0
    # Nor may what fetches it, a token for that one output, read anything by itself.
    mine = Output(found.attribute_path, found.store_path, published.token)
    assert there.copy(mine).code != 0
    assert not has(there.person, published.home)
