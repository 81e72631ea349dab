"""A tree that is published runs nothing outside of Nix's sandbox, whatever was committed to it."""

import os
import subprocess
from pathlib import Path

import pytest

from piste.lib.errors import PisteError
from piste.publisher.git import read_checkout


def git(folder: Path, *arguments: str) -> None:
    known = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, env={**os.environ, **known})


def test_a_folder_in_the_form_of_a_bare_repository_names_no_program_to_run(tmp_path: Path) -> None:
    tree, witness = tmp_path / "tree", tmp_path / "witness"
    flake = tree / "sub"
    for folder in (flake / "objects", flake / "refs"):
        folder.mkdir(parents=True)
        (folder / "keep").touch()
    (flake / "flake.nix").write_text("{ outputs = _: { }; }\n")
    (flake / "HEAD").write_text("ref: refs/heads/main\n")
    (flake / "config").write_text(
        "[core]\n repositoryformatversion = 0\n bare = false\n worktree = ..\n"
        f' fsmonitor = "touch {witness}; false"\n'
    )
    git(tmp_path, "init", "-q", "tree")
    git(tree, "add", "--all")
    git(tree, "commit", "-q", "-m", "x")
    git(tmp_path, "clone", "-q", "tree", "clone")
    with pytest.raises(PisteError):
        read_checkout(tmp_path / "clone" / "sub")
    assert not witness.exists()
