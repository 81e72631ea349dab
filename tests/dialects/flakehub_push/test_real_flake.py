"""A real flake, packed and published as `flakehub-push` does it; real Nix pushes its paths and locks it, and
a host fetches it. What comes of it is the same as `piste publish` makes."""

import json
from pathlib import Path
from typing import Any

import pytest

from piste.host.place import system_type
from piste.nix.signature import PublicKey
from tests.dialects.flakehub_push.flake import ATTRIBUTE, Found, find_out, nix
from tests.dialects.flakehub_push.pusher import Pusher
from tests.hub.process import Hub
from tests.hub.publishing import Acme
from tests.running.command import Person, check
from tests.running.nix import RUN, commit, configured, content, copy_to

FLAKE = f"""{{
  description = "A system";
  outputs = {{ self }}: let {RUN}
    common = run "common" "echo shared > $out";
    web = run "web" "echo one ${{common}} > $out";
  in {{
    nixosConfigurations.web.config.system.build.toplevel = web;
    packages.{system_type()}.default = common;
  }};
}}
"""


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """The machine of the CI."""
    return Person(tmp_path_factory.mktemp("builder"))


@pytest.fixture(scope="module")
def folder(builder: Person) -> Path:
    """A repository with a flake at its top and one in a folder, a script and a link."""
    top = builder.folder / "flake"
    (top / "nix" / "web").mkdir(parents=True)
    for place in (top, top / "nix" / "web"):
        (place / "flake.nix").write_text(FLAKE)
        (place / "run").write_text("#!/bin/sh\n")
        (place / "run").chmod(0o755)
        (place / "link").symlink_to("flake.nix")
    (top / "README.md").write_text("# Web\n")
    (top / ("long" * 30)).write_text("")
    check(builder.run("git", "init", "-q", "-b", "main", cwd=top))
    commit(builder, top, "A system")
    return top


@pytest.fixture(scope="module")
def found(builder: Person, folder: Path) -> Found:
    return find_out(builder, folder)


def pusher(acme: Acme, found: Found, version: str = "v1.0.0") -> Pusher:
    name = f"{acme.organization}/{acme.project}"
    return Pusher(acme.hub, acme.member, name, version, found.tarball, found.metadata)


def key_of(acme: Acme) -> PublicKey:
    keys = acme.hub.as_admin("GET", f"/api/v1/organizations/{acme.organization}")["public_keys"]
    return PublicKey.parse(keys[0])


def someone(acme: Acme, folder: Path) -> Person:
    person = Person(folder, acme.hub.url, acme.member)
    return configured(person, acme.hub.url, acme.member, [key_of(acme)])


@pytest.fixture
def acme(shared_hub: Hub) -> Acme:
    return Acme(shared_hub)  # private


def test_a_host_fetches_what_was_published_once_nix_has_pushed_it(
    acme: Acme, builder: Person, folder: Path, found: Found, tmp_path: Path
) -> None:
    pusher(acme, found).run()
    assert acme.resolve("1").ref == "output-not-available"
    path = found.outputs[ATTRIBUTE]
    target = f"git+file://{folder}#{ATTRIBUTE}.config.system.build.toplevel"
    nix(builder, "build", "--no-link", "--no-write-lock-file", target)
    runner = Person(builder.folder, acme.hub.url, acme.member)
    check(copy_to(configured(runner, acme.hub.url, acme.member, []), f"{acme.hub.url}{acme.cache}", path))
    host = someone(acme, tmp_path / "host")
    reference = f"{acme.organization}/{acme.project}/1#{ATTRIBUTE}"
    assert host.succeed("resolve", reference).stdout.strip() == path
    # As `fh` asks for it.
    place = f"/f/{acme.organization}/{acme.project}/=v1.0.0/output/{ATTRIBUTE}?include_token=true"
    answer = acme.ask("GET", place)
    assert (answer.status, answer.json()["store_path"]) == (200, path)
    assert answer.json()["token"]
    host.succeed("fetch", reference, str(tmp_path / "link"))
    assert content(host, path).startswith("one ")


@pytest.mark.parametrize("subfolder", ["", "nix/web"])
def test_nix_locks_it_as_it_would_lock_the_repository_itself(
    acme: Acme, builder: Person, folder: Path, tmp_path: Path, subfolder: str
) -> None:
    found = find_out(builder, folder, subfolder)
    pusher(acme, found).run()
    reader = someone(acme, tmp_path / "reader")
    url = f"{acme.hub.url}/f/{acme.organization}/{acme.project}/1.tar.gz"
    locked = json.loads(nix(reader, "flake", "metadata", "--json", url))["locked"]
    assert locked["rev"] == found.flake["revision"]
    assert locked["revCount"] == found.flake["revCount"]
    assert locked["lastModified"] == found.flake["lastModified"]
    if not subfolder:
        # The same tree: modes, links and long names have come through.
        assert locked["narHash"] == found.flake["locked"]["narHash"]


def test_it_is_the_same_thing_as_a_release_of_piste_publish(
    acme: Acme, folder: Path, found: Found, tmp_path: Path
) -> None:
    acme.add_project("own")
    publisher = Person(tmp_path / "publisher", acme.hub.url, acme.member)
    options = ("--version", "1.0.0", "--label", "nix", "--label", "web", "--json")
    publisher.succeed("publish", str(folder), "--name", f"{acme.organization}/own", *options)
    pusher(acme, found).run()
    runner = configured(publisher, acme.hub.url, acme.member, [])
    check(copy_to(runner, f"{acme.hub.url}{acme.cache}", *found.outputs.values()))
    for attribute in found.outputs:
        assert acme.resolve("1", attribute).status == 200
    ours, theirs = (shown(acme, project) for project in ("own", "web"))
    assert theirs == ours


def shown(acme: Acme, project: str) -> Any:
    """Everything of a release that has to be alike, and which kinds of entries it left in the audit log."""
    details = acme.ask("GET", f"/api/v1/projects/{acme.organization}/{project}/releases/1").json()
    place = f"/api/v1/organizations/{acme.organization}/audit"
    log = acme.hub.request("GET", place, token=acme.hub.admin)
    entries = [json.loads(line) for line in log.body.splitlines()]
    subjects = {
        each["subject"].split()[0]
        for each in entries
        if each.get("project") == project and "subject" in each and "release " in each["subject"]
    }
    release = details["release"]
    # Made for each anew, or by another clock.
    for name in ("id", "project", "published_at"):
        release.pop(name)
    details.pop("source_url")
    details["repository"] = None  # `piste publish` knows the remote of the repository, the client doesn't say
    return details, subjects


def test_two_publications_of_one_archive_are_one_object(acme: Acme, found: Found) -> None:
    for version in ("v1.0.0", "v1.1.0"):
        pusher(acme, found, version).run()
    first, second = (acme.ask("GET", f"{acme.base}/releases/={each}/source") for each in ("1.0.0", "1.1.0"))
    assert first.body == second.body
