"""Finding the outputs of a flake with real Nix."""

from pathlib import Path

import pytest

from piste.lib.errors import PisteError
from piste.nixcmd.flake import StaleLockError, buildable_systems, flake_metadata
from piste.nixcmd.store import Store
from piste.publisher import source
from piste.publisher.evaluate import evaluate_flake
from piste.publisher.expressions import quote
from piste.publisher.records import Evaluation, Wish
from tests.running.command import Person
from tests.running.nix import commit, write_flake


@pytest.fixture
def person(machine: Path) -> Person:
    return Person(machine)


def evaluate(person: Person, folder: Path, extra: tuple[tuple[str, ...], ...] = ()) -> Evaluation:
    found = source.read_source(Wish(folder, "acme", "web", version="1.0.0"))
    store = Store.parse(person.store)
    flake = flake_metadata(store, found.url)
    return evaluate_flake(store, flake.url, pure=found.pure, extra=extra, workers=2)


def names(evaluation: Evaluation) -> list[str]:
    return [output.name for output in evaluation.outputs]


def test_every_output_of_the_standard_kinds_is_found(person: Person, tmp_path: Path) -> None:
    outputs = """
      packages.x86_64-linux."a.b" = run "dotted" "";
      packages.aarch64-linux.default = run "arm" "";
      devShells.x86_64-linux.default = run "shell" "";
      checks.x86_64-linux.test = run "test" "";
      apps.x86_64-linux.run = { type = "app"; program = "${run "app" ""}/bin/run"; };
      formatter.x86_64-linux = run "formatter" "";
      nixosConfigurations."web.example.org".config.system.build.toplevel = run "nixos" "";
      darwinConfigurations.mac.system = run "darwin" "";
      homeConfigurations."ada@web".activationPackage = run "home" "";
      legacyPackages.x86_64-linux = throw "never looked at";
      lib.x = throw "never looked at";
    """
    evaluation = evaluate(person, write_flake(person, tmp_path / "flake", "", outputs))
    assert evaluation.broken == []
    assert {output.name: output.store_path.name for output in evaluation.outputs} == {
        'packages.x86_64-linux."a.b"': "dotted",
        "packages.aarch64-linux.default": "arm",
        "devShells.x86_64-linux.default": "shell",
        "checks.x86_64-linux.test": "test",
        "apps.x86_64-linux.run": "app",
        "formatter.x86_64-linux": "formatter",
        'nixosConfigurations."web.example.org"': "nixos",
        "darwinConfigurations.mac": "darwin",
        'homeConfigurations."ada@web"': "home",
    }
    assert all(output.derivations and output.system for output in evaluation.outputs)


def test_broken_outputs_hide_no_other_and_each_is_named(person: Person, tmp_path: Path) -> None:
    outputs = """
      packages.x86_64-linux.good = run "good" "";
      packages.x86_64-linux.throws = throw "no good";
      packages.x86_64-linux.misses = (run "x" "" // { outPath = builtins.getAttr "absent" { }; });
      packages.x86_64-linux.text = "not a derivation";
      packages.aarch64-linux = abort "no such machine";
      checks = abort "no checks";
      nixosConfigurations.web.config.system.build.toplevel = run "web" "";
    """
    evaluation = evaluate(person, write_flake(person, tmp_path / "flake", "", outputs))
    assert names(evaluation) == ["nixosConfigurations.web", "packages.x86_64-linux.good"]
    reasons = {output.name: output.reason for output in evaluation.broken}
    assert set(reasons) == {
        "checks",
        "packages.aarch64-linux",
        "packages.x86_64-linux.throws",
        "packages.x86_64-linux.misses",
        "packages.x86_64-linux.text",
    }
    assert "no good" in reasons["packages.x86_64-linux.throws"]
    assert "absent" in reasons["packages.x86_64-linux.misses"]
    assert "not a derivation" in reasons["packages.x86_64-linux.text"]
    assert "no such machine" in reasons["packages.aarch64-linux"]


def test_an_output_of_another_kind_can_be_asked_for(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", 'hydraJobs.all = run "jobs" "";')
    assert names(evaluate(person, folder)) == []
    assert names(evaluate(person, folder, (("hydraJobs", "all"),))) == ["hydraJobs.all"]


def test_a_flake_without_outputs_has_none(person: Person, tmp_path: Path) -> None:
    evaluation = evaluate(person, write_flake(person, tmp_path / "flake", "", ""))
    assert (evaluation.outputs, evaluation.broken) == ([], [])


def test_a_flake_that_is_no_nix_is_refused_with_nixs_words(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", "")
    (folder / "flake.nix").write_text("{ outputs = ")
    commit(person, folder, "Broken")
    with pytest.raises(PisteError) as caught:
        evaluate(person, folder)
    assert "syntax error" in caught.value.message


def test_a_dirty_tree_is_evaluated_as_it_is(person: Person, tmp_path: Path) -> None:
    folder = write_flake(person, tmp_path / "flake", "", 'packages.x86_64-linux.a = run "before" "";')
    text = (folder / "flake.nix").read_text()
    (folder / "flake.nix").write_text(text.replace("before", "after"))
    assert evaluate(person, folder).outputs[0].store_path.name == "after"


def test_a_flake_in_a_subfolder_and_outside_git_is_found(person: Person, tmp_path: Path) -> None:
    output = 'packages.x86_64-linux.a = run "a" "";'
    top = write_flake(person, tmp_path / "top", "", "")
    write_flake(person, tmp_path / "other", "", output)
    (top / "sub").mkdir()
    (top / "sub" / "flake.nix").write_text((tmp_path / "other" / "flake.nix").read_text())
    commit(person, top, "In a subfolder")
    assert names(evaluate(person, top / "sub")) == ["packages.x86_64-linux.a"]
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "flake.nix").write_text((tmp_path / "other" / "flake.nix").read_text())
    assert names(evaluate(person, plain)) == ["packages.x86_64-linux.a"]


def test_a_lock_that_does_not_fit_is_told_apart(person: Person, tmp_path: Path) -> None:
    other = write_flake(person, tmp_path / "other", "", "")
    folder = tmp_path / "flake"
    folder.mkdir()
    flake = f'{{ inputs.other.url = "path:{other}"; outputs = {{ self, other }}: {{ }}; }}'
    (folder / "flake.nix").write_text(flake)
    person.run("git", "init", "-q", cwd=folder)
    commit(person, folder, "Without a lock file")
    with pytest.raises(StaleLockError):
        evaluate(person, folder)


def test_this_machine_can_build_for_itself(person: Person) -> None:
    assert buildable_systems(Store.parse(person.store))[0].endswith("-linux")


@pytest.mark.parametrize("text", ['a"b', "${x}", "a\\b", "$", "a\nb", "ü", "'' ${''x}"])
def test_any_text_can_be_said_in_nix(person: Person, text: str) -> None:
    import json

    done = person.run(
        "nix", "--extra-experimental-features", "nix-command", "eval", "--json", "--expr", quote(text)
    )
    assert json.loads(done.stdout) == text
