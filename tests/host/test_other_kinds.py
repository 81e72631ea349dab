"""Home-manager's and nix-darwin's configurations come to life as their own tools do it, in their shape."""

from pathlib import Path

import pytest

from piste.host.activate import check_action
from piste.host.journal import Journal
from piste.host.place import Host, default_attribute
from piste.host.records import Action, Kind, Outcome, Result
from piste.host.rollback import roll_back
from piste.lib.errors import UsageError
from tests.host.conftest import Machine
from tests.running.command import ROOT
from tests.running.nix import build

# `shape NAME SCRIPT FILES`: a store path with an `activate` that runs SCRIPT, and with FILES.
SHAPE = """
  busybox = builtins.path { name = "busybox-static"; path = %s; };
  shape = name: script: files: derivation {
    inherit name script; system = builtins.currentSystem; builder = "/bin/sh";
    args = [ "-ec" ''
      mkdir $out; cd $out; ${files}
      printf '#!%%s sh\\nPATH=; box=%%s; out=%%s\\n%%s\\n' ${busybox} ${busybox} $out "$script" > activate
      chmod +x activate
    '' ];
  };
"""

HOME_SCRIPT = """
set -e
[ "$1 $2" = "--driver-version 1" ]
$box mkdir -p $HOME/.local/state/home-manager/gcroots
echo "$USER: GREETING" > $HOME/greeting
$box ln -sfn $out $HOME/.local/state/home-manager/gcroots/current-home
[ -z "${DRY_RUN:-}" ] || echo "nothing is done"
[ "GREETING" != bad ]
"""

DARWIN_SCRIPT = """
set -e
$box mkdir -p /run
echo "GREETING" > /greeting
[ "GREETING" != bad ]
$box ln -sfn $out /run/current-system
"""


def make(machine: Machine, kind: Kind, greeting: str) -> str:
    """A configuration of a kind in the machine's store."""
    if kind is Kind.HOME_MANAGER:
        name, script, files = "home-manager-generation", HOME_SCRIPT, "mkdir home-files; echo 1 > hm-version"
    else:
        name, script, files = "darwin-system", DARWIN_SCRIPT, "echo 25.05 > darwin-version"
    folder = machine.person.folder / "sh"
    if not folder.exists():
        folder.mkdir()
        (folder / "busybox").write_bytes((ROOT / ".cache/nix/bin/busybox").read_bytes())
        (folder / "busybox").chmod(0o755)
    definitions = SHAPE % folder
    definitions = definitions.replace("${busybox} ${busybox}", "${busybox}/busybox ${busybox}/busybox")
    text = script.replace("GREETING", greeting).replace("${DRY", "''${DRY")
    return build(machine.person, definitions, f"shape \"{name}\" ''{text}'' \"{files}\"")


def go(machine: Machine, kind: Kind, to: str | None) -> Outcome:
    return roll_back(machine.host, kind, to, machine.heard)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("USER", "alice")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return Path("home/alice")


def test_a_home_is_activated_by_its_driver_and_the_profile_is_ours(machine: Machine, home: Path) -> None:
    kind = Kind.HOME_MANAGER
    first, second = make(machine, kind, "one"), make(machine, kind, "two")
    assert go(machine, kind, first).result is Result.COMMITTED
    assert (machine.person.root / home / "greeting").read_text() == "alice: one\n"
    assert go(machine, kind, second).generation == 2
    profile = machine.person.root / home / ".local/state/nix/profiles/home-manager"
    assert machine.host.profile(kind) == profile
    assert machine.host.store_path_behind(profile) == second
    back = go(machine, kind, None)
    assert (back.result, back.store_path, back.generation) == (Result.COMMITTED, first, 1)
    assert (machine.person.root / home / "greeting").read_text() == "alice: one\n"


def test_a_home_that_fails_goes_back_to_the_one_before(machine: Machine, home: Path) -> None:
    kind = Kind.HOME_MANAGER
    first, bad = make(machine, kind, "one"), make(machine, kind, "bad")
    go(machine, kind, first)
    assert go(machine, kind, bad).result is Result.ROLLED_BACK
    assert (machine.person.root / home / "greeting").read_text() == "alice: one\n"
    assert machine.host.running(kind) == first
    assert list(machine.host.generations(kind)) == [1]


def test_the_journal_of_a_home_is_the_users_own(machine: Machine, home: Path) -> None:
    go(machine, Kind.HOME_MANAGER, make(machine, Kind.HOME_MANAGER, "one"))
    folder = machine.person.root / home / ".local/state/piste"
    assert len(Journal(folder).deployments()) == 1
    assert not (machine.person.root / "var/lib/piste").exists()


def test_a_darwin_system_is_activated_then_committed_and_goes_back_when_it_fails(machine: Machine) -> None:
    kind = Kind.NIX_DARWIN
    first, bad = make(machine, kind, "one"), make(machine, kind, "bad")
    assert go(machine, kind, first).result is Result.COMMITTED
    assert machine.host.store_path_behind(machine.host.profile(kind)) == first
    assert go(machine, kind, bad).result is Result.ROLLED_BACK
    assert (machine.person.root / "greeting").read_text() == "one\n"
    assert machine.host.running(kind) == first


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        (Kind.HOME_MANAGER, Action.BOOT),
        (Kind.NIX_DARWIN, Action.BOOT),
        (Kind.NIX_DARWIN, Action.DRY_ACTIVATE),
    ],
)
def test_an_action_that_a_kind_does_not_have_is_a_usage_error(kind: Kind, action: Action) -> None:
    with pytest.raises(UsageError, match="can't"):
        check_action(kind, action)


def test_a_reference_without_an_attribute_means_this_host_or_this_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("USER", "alice")
    assert default_attribute(Kind.HOME_MANAGER) == ("homeConfigurations", "alice")
    assert default_attribute(Kind.NIXOS)[0] == "nixosConfigurations"
    assert default_attribute(Kind.NIX_DARWIN)[0] == "darwinConfigurations"


def test_a_root_has_its_own_store_unless_another_is_named(tmp_path: Path) -> None:
    assert Host.at("auto", tmp_path).store.root == tmp_path
    with pytest.raises(UsageError):
        Host.at(f"local?root={tmp_path}/other", tmp_path).check_bootable()
