"""The flake's folder: version, cleanliness, tarball."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from piste.lib.errors import PisteError, UsageError
from piste.publisher import git
from piste.publisher.records import Wish
from piste.publisher.source import read_source, write_tarball
from tests.running.command import Person
from tests.running.nix import commit, write_flake


@pytest.fixture
def person(machine: Path) -> Person:
    return Person(machine)


def wish(folder: Path, version: str | None = None) -> Wish:
    return Wish(folder, "acme", "web", version=version)


def tarball(folder: Path) -> bytes:
    buffer = io.BytesIO()
    assert write_tarball(read_source(wish(folder, "1.0.0")), buffer) == len(buffer.getvalue())
    return buffer.getvalue()


def test_a_rolling_version_counts_commits_and_names_the_revision(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    commit(person, folder, "Another")
    source = read_source(wish(folder))
    revision = person.run("git", "rev-parse", "HEAD", cwd=folder).stdout.strip()
    assert source.version == f"0.1.2+rev-{revision}"
    assert source.revision == revision


def test_a_rolling_version_of_a_dirty_tree_is_refused_with_a_way_on(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    (folder / "untracked").write_text("does not count")
    read_source(wish(folder))
    (folder / "flake.nix").write_text("{ outputs = _: { }; }")
    with pytest.raises(PisteError) as caught:
        read_source(wish(folder))
    assert caught.value.ref == "dirty-tree"
    assert "git status" in (caught.value.hint or "")
    assert read_source(wish(folder, "1.0.0")).revision is None


def test_a_shallow_clone_can_not_count(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    commit(person, folder, "Another")
    person.run("git", "clone", "-q", "--depth=1", f"file://{folder}", str(tmp_path / "clone"))
    with pytest.raises(PisteError) as caught:
        read_source(wish(tmp_path / "clone"))
    assert caught.value.ref == "shallow-clone"
    assert read_source(wish(tmp_path / "clone", "1.0.0")).revision is not None


def test_a_folder_outside_git_has_no_rolling_version(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text("{ outputs = _: { }; }")
    with pytest.raises(UsageError):
        read_source(wish(tmp_path))
    assert read_source(wish(tmp_path, "v1.2.3")).version == "1.2.3"


@pytest.mark.parametrize("version", ["", "1", "1.2", "latest", "1.2.3.4", "vv1.0.0"])
def test_what_is_no_version_is_a_usage_error(tmp_path: Path, version: str) -> None:
    (tmp_path / "flake.nix").write_text("{ outputs = _: { }; }")
    with pytest.raises(UsageError) as caught:
        read_source(wish(tmp_path, version))
    assert caught.value.ref == "bad-version"


def test_a_folder_without_a_flake_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_source(wish(tmp_path, "1.0.0"))
    assert caught.value.ref == "no-flake"


def test_a_flake_that_git_does_not_know_is_told_so(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    (folder / "sub").mkdir()
    (folder / "sub" / "flake.nix").write_text("{ outputs = _: { }; }")
    with pytest.raises(PisteError) as caught:
        read_source(wish(folder / "sub", "1.0.0"))
    assert caught.value.ref == "flake-untracked"


def test_the_tarball_of_a_commit_is_the_same_everywhere(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    (folder / "link").symlink_to("script")
    (folder / ("long" * 60)).write_text("x")
    commit(person, folder, "More")
    (folder / "untracked").write_text("not in it")
    person.run("git", "clone", "-q", str(folder), str(tmp_path / "clone"))
    os.utime(tmp_path / "clone" / "script", (1, 1))
    first, second = tarball(folder), tarball(tmp_path / "clone")
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        members = {entry.name: entry for entry in archive}
        assert set(members) == {f"source/{n}" for n in ("flake.nix", "script", "link", "long" * 60)}
        assert members["source/script"].mode == 0o755
        assert members["source/link"].linkname == "script"
        assert {entry.uid for entry in members.values()} == {0}
        time = int(person.run("git", "log", "-1", "--format=%ct", cwd=folder).stdout)
        assert {entry.mtime for entry in members.values()} == {time}


def test_a_file_that_is_larger_than_memory_would_like_streams(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    with (folder / "large").open("wb") as file:
        file.truncate(64 << 20)
    commit(person, folder, "Large")
    with tarfile.open(fileobj=io.BytesIO(tarball(folder))) as archive:
        member = archive.extractfile("source/large")
        assert member is not None
        digest = hashlib.sha256(member.read()).hexdigest()
    assert digest == hashlib.sha256(bytes(64 << 20)).hexdigest()


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://git.example.org/acme/web.git", "https://git.example.org/acme/web"),
        ("https://ada:hunter2@git.example.org/acme/web", "https://git.example.org/acme/web"),
        ("git@git.example.org:acme/web.git", "https://git.example.org/acme/web"),
        ("ssh://git@git.example.org/acme/web.git", "https://git.example.org/acme/web"),
        ("/srv/git/web", None),
        ("file:///srv/git/web", None),
    ],
)
def test_the_repository_is_named_without_credentials(
    person: Person, tmp_path: Path, remote: str, shown: str | None
) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    person.run("git", "remote", "add", "origin", remote, cwd=folder)
    checkout = git.read_checkout(folder)
    assert checkout is not None
    assert checkout.repository == shown
