"""Real Nix locks, updates and builds a flake whose input is a private project of the hub."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from piste.host.place import system_type
from tests.dialects.inputs.conftest import Library
from tests.running.command import Person, check
from tests.running.nix import configured, content, nix_of

VERSIONS = ["forky", "trixie"]


def person(library: Library, folder: Path, version: str) -> Person:
    """Somebody with that version of Nix and with the project's token in a netrc."""
    found = nix_of(version)
    if found is None:
        pytest.skip(f"the Nix of Debian {version} is not there: `make setup-dev` brings it")
    tenant = library.tenant
    made = configured(Person(folder, nix=found), tenant.hub.url, tenant.token, [])
    settings = made.extra["NIX_CONFIG"] + "\nexperimental-features = nix-command flakes\ntarball-ttl = 0"
    return Person(folder, nix=found, extra={**made.extra, "NIX_CONFIG": settings})


def consumer(who: Person, url: str) -> Path:
    """A flake with one input."""
    folder = who.folder / "consumer"
    folder.mkdir(parents=True)
    (folder / "flake.nix").write_text(
        f"""{{ inputs.library.url = "{url}";
  outputs = {{ self, library }}: {{
    packages.{system_type()}.default = derivation {{
      name = "greeting"; system = "{system_type()}"; builder = "/bin/sh";
      args = [ "-ec" "read words < ${{library.packages.{system_type()}.hello}}; echo $words $words > $out" ];
    }};
  }}; }}
"""
    )
    return folder


def locked(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "flake.lock").read_text())["nodes"]["library"]["locked"]
    return found


def build(who: Person, folder: Path) -> str:
    argv = ["nix", "build", "--no-link", "--print-out-paths", f"path:{folder}"]
    return content(who, check(who.run(*argv), argv))


def git(library: Library, *arguments: str) -> str:
    return check(library.publisher.run("git", *arguments, cwd=library.folder))


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_16_and_17_a_private_input_locks_and_builds_the_same_on_every_machine(
    library: Library, tmp_path: Path, version: str
) -> None:
    one, two = (person(library, tmp_path / name, version) for name in ("one", "two"))
    folders = [consumer(who, library.input_url("0.1")) for who in (one, two)]
    for who, folder in zip((one, two), folders, strict=True):
        check(who.run("nix", "flake", "lock", f"path:{folder}"))
        assert build(who, folder) == "first first\n"
    locks = [(folder / "flake.lock").read_bytes() for folder in folders]
    assert locks[0] == locks[1]
    # A third machine has only the lock, and goes by it.
    three = person(library, tmp_path / "three", version)
    folder = consumer(three, library.input_url("0.1"))
    (folder / "flake.lock").write_bytes(locks[0])
    assert build(three, folder) == "first first\n"
    assert (folder / "flake.lock").read_bytes() == locks[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_row_16_the_lock_says_which_commit_and_what_is_unpacked(
    library: Library, tmp_path: Path, version: str
) -> None:
    who = person(library, tmp_path / "one", version)
    folder = consumer(who, library.input_url("0.1.tar.gz"))
    check(who.run("nix", "flake", "lock", f"path:{folder}"))
    found = locked(folder)
    assert found["rev"] == git(library, "rev-parse", "HEAD")
    assert found["revCount"] == int(git(library, "rev-list", "--count", "HEAD"))
    assert found["lastModified"] == int(git(library, "log", "-1", "--format=%ct"))
    assert found["type"] == "tarball"
    assert re.match(
        rf"{library.input_url('').replace('/f/', '/f/pinned/')}[^/]+/[0-9a-f-]{{36}}/source.tar.gz(\?|$)",
        found["url"],
    )
    # The same tree as git has it, executable bits and links too.
    of_git = json.loads(check(who.run("nix", "flake", "metadata", "--json", f"git+file://{library.folder}")))
    assert found["narHash"] == of_git["locked"]["narHash"]
    metadata = json.loads(check(who.run("nix", "flake", "metadata", "--json", library.input_url("0.1"))))
    assert {metadata["locked"][name] for name in ("narHash", "rev")} == {found["narHash"], found["rev"]}
    assert metadata["revCount"] == found["revCount"]
    assert metadata["lastModified"] == found["lastModified"]


@pytest.mark.parametrize("version", VERSIONS)
def test_gotcha_20_an_update_moves_to_the_next_release_also_when_its_source_is_the_same(
    library: Library, tmp_path: Path, version: str
) -> None:
    who = person(library, tmp_path / "one", version)
    folder = consumer(who, library.input_url("*"))
    check(who.run("nix", "flake", "lock", f"path:{folder}"))
    first = locked(folder)
    library.publish("second")
    check(who.run("nix", "flake", "lock", f"path:{folder}"))
    assert locked(folder) == first
    check(who.run("nix", "flake", "update", "--flake", f"path:{folder}"))
    second = locked(folder)
    assert second["revCount"] == first["revCount"] + 1
    assert build(who, folder) == "second second\n"
    # The source of the second again, under a version of its own.
    name = library.tenant.name
    library.publisher.succeed(
        "publish", str(library.folder), "--name", name, "--version", "1.0.0", "--no-build"
    )
    check(who.run("nix", "flake", "update", "--flake", f"path:{folder}"))
    third = locked(folder)
    assert "/1.0.0/" in third["url"]
    assert (third["narHash"], third["rev"]) == (second["narHash"], second["rev"])


@pytest.mark.parametrize("version", VERSIONS)
def test_row_17_a_lock_holds_when_its_release_is_yanked_and_says_so_when_it_is_deleted(
    library: Library, tmp_path: Path, version: str
) -> None:
    who = person(library, tmp_path / "one", version)
    folder = consumer(who, library.input_url("0.1"))
    check(who.run("nix", "flake", "lock", f"path:{folder}"))
    made = locked(folder)["url"].split("/")[-3].replace("%2B", "+")
    library.tenant.hub.as_admin("PUT", f"{library.tenant.api}/releases/={made}/yank", json={})
    two = person(library, tmp_path / "two", version)
    other = consumer(two, library.input_url("0.1"))
    refused = two.run("nix", "flake", "lock", f"path:{other}")
    assert refused.code != 0
    assert "matches 0.1" in refused.stderr.replace("^", "")
    (other / "flake.lock").write_bytes((folder / "flake.lock").read_bytes())
    assert build(two, other) == "first first\n"
    library.tenant.hub.as_admin("DELETE", library.tenant.api)
    three = person(library, tmp_path / "three", version)
    another = consumer(three, library.input_url("0.1"))
    (another / "flake.lock").write_bytes((folder / "flake.lock").read_bytes())
    gone = three.run("nix", "build", "--no-link", f"path:{another}")
    assert gone.code != 0
    assert "410" in gone.stderr
    assert f"Release {made} of {library.tenant.name} was deleted." in gone.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_gotcha_18_a_netrc_of_another_host_opens_nothing(
    library: Library, tmp_path: Path, version: str
) -> None:
    who = person(library, tmp_path / "one", version)
    folder = consumer(who, library.input_url("0.1"))
    netrc = who.folder / "netrc"
    netrc.write_text(netrc.read_text().replace("127.0.0.1", "localhost"))
    refused = who.run("nix", "flake", "lock", f"path:{folder}")
    assert refused.code != 0
    assert "404" in refused.stderr
    assert "There is nothing here that you may see." in refused.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("requirement", ["=0.1.1", "~0.1", "0.1.*", "%3E%3D0.1%2C%20%3C1"])
def test_gotcha_22_operators_arrive_however_nix_encodes_them(
    library: Library, tmp_path: Path, version: str, requirement: str
) -> None:
    who = person(library, tmp_path / "one", version)
    found = json.loads(check(who.run("nix", "flake", "metadata", "--json", library.input_url(requirement))))
    assert found["revCount"] == 1


def test_gotcha_28_an_old_nix_takes_the_form_with_the_suffix(library: Library, tmp_path: Path) -> None:
    """2.8 knows nothing of locks by `Link`: it locks the hash of what it got at the address itself."""
    who = person(library, tmp_path / "one", "bookworm")
    folder = consumer(who, library.input_url("0.1.tar.gz"))
    check(who.run("nix", "flake", "lock", f"path:{folder}"))
    found = locked(folder)
    assert found["url"] == library.input_url("0.1.tar.gz")
    shown = json.loads(check(who.run("nix", "flake", "metadata", "--json", library.input_url("0.1.tar.gz"))))
    assert shown["locked"]["narHash"] == found["narHash"]
    of_git = json.loads(check(who.run("nix", "flake", "metadata", "--json", f"git+file://{library.folder}")))
    assert of_git["locked"]["narHash"] == found["narHash"]
