"""A machine comes to what it is told, and back: real systems, built by real Nix, activated for real."""

import os
import socket
import subprocess

import pytest

from piste.host.activate import still_running
from piste.host.journal import Journal
from piste.host.records import Action, Kind, Outcome, Result, State, Watcher
from piste.host.rollback import roll_back
from piste.lib.errors import BlockedError, PisteError, RolledBackError, UsageError
from tests.host.conftest import Machine
from tests.hub.process import wait_for
from tests.running.command import PISTE

KIND = Kind.NIXOS


def go(machine: Machine, to: str | None) -> Outcome:
    return roll_back(machine.host, KIND, to, machine.heard)


def test_a_system_is_tested_then_committed_and_answers(machine: Machine) -> None:
    first = machine.build("one")
    outcome = go(machine, first)
    assert (outcome.result, outcome.generation, outcome.previous) == (Result.COMMITTED, 1, None)
    assert machine.page == "one"
    assert machine.boots == machine.host.running(KIND) == first
    assert machine.host.generations(KIND) == {1: first}


def test_the_same_system_again_changes_nothing(machine: Machine) -> None:
    first = machine.build("one")
    go(machine, first)
    outcome = go(machine, first)
    assert (outcome.result, outcome.generation) == (Result.UNCHANGED, 1)


def test_a_system_that_could_not_be_gone_back_to_is_activated_again_and_not_taken_for_well(
    machine: Machine,
) -> None:
    good, bad = machine.build("one"), machine.build("")
    go(machine, good)
    port = machine.person.root / "var/lib/web/port"
    with socket.socket() as taken:  # a fault of the machine: no service can start
        taken.bind(("127.0.0.1", 0))
        port.write_text(f"{taken.getsockname()[1]}\n")
        assert go(machine, bad).result is Result.ROLLBACK_FAILED
    port.write_text(f"{machine.port}\n")
    assert machine.host.running(KIND) == good
    assert go(machine, good).result is Result.COMMITTED
    assert machine.page == "one"
    assert go(machine, good).result is Result.UNCHANGED


def test_forward_and_back_keep_the_numbers_of_generations(machine: Machine) -> None:
    first, second = machine.build("one"), machine.build("two")
    go(machine, first)
    assert go(machine, second).generation == 2
    assert machine.page == "two"
    back = go(machine, None)
    assert (back.result, back.store_path, back.previous, back.generation) == (
        Result.COMMITTED,
        first,
        second,
        1,
    )
    assert machine.page == "one"
    assert machine.boots == first
    assert go(machine, "2").generation == 2
    assert machine.page == "two"
    assert list(machine.host.generations(KIND)) == [1, 2]


def test_a_system_that_fails_to_start_is_rolled_back_and_never_becomes_what_boots(machine: Machine) -> None:
    good, bad = machine.build("one"), machine.build("")
    go(machine, good)
    outcome = go(machine, bad)
    assert (outcome.result, outcome.store_path, outcome.previous) == (Result.ROLLED_BACK, bad, good)
    assert "status 4" in str(outcome.reason)
    assert machine.page == "one"
    assert machine.boots == machine.host.running(KIND) == good
    assert machine.host.generations(KIND) == {1: good}


class FillingUp(Watcher):
    """The disk of the journal is full from the activation on."""

    def __init__(self, machine: Machine) -> None:
        self._journal = machine.host.state_folder(KIND) / "deployments.ndjson"

    def step(self, text: str) -> None:
        if text.startswith("Activating"):
            self._journal.rename(self._journal.with_name("kept"))
            self._journal.symlink_to("/dev/full")


def test_a_disk_that_is_full_in_the_middle_brings_back_what_ran(machine: Machine) -> None:
    first, second = machine.build("one"), machine.build("two")
    go(machine, first)
    with pytest.raises(RolledBackError, match=r"could not write down.*No space left"):
        roll_back(machine.host, KIND, second, FillingUp(machine))
    assert machine.page == "one"
    assert machine.boots == machine.host.running(KIND) == first
    journal = machine.host.state_folder(KIND) / "deployments.ndjson"
    journal.unlink()
    journal.with_name("kept").rename(journal)
    # The journal knows of a test only: the next command undoes it once more, and then does its own.
    assert go(machine, second).result is Result.COMMITTED
    assert machine.page == "two"


def test_a_first_system_that_fails_has_nothing_to_go_back_to_and_says_so(machine: Machine) -> None:
    outcome = go(machine, machine.build(""))
    assert outcome.result is Result.FAILED
    assert "Nothing ran before" in str(outcome.reason)
    assert machine.boots == ""


def test_a_way_back_that_fails_too_is_a_result_of_its_own(machine: Machine) -> None:
    bad, worse = machine.build(""), machine.build("two")
    machine.host.within("/run").mkdir(exist_ok=True)
    go(machine, bad)  # runs, though its service does not
    (machine.person.root / "boot").write_text("a file where the boot entries should go\n")
    outcome = go(machine, worse)
    assert outcome.result is Result.ROLLBACK_FAILED
    assert outcome.previous == bad


def test_a_boot_entry_that_cannot_be_written_undoes_the_profile_too(machine: Machine) -> None:
    first, second = machine.build("one"), machine.build("two")
    go(machine, first)
    entries = machine.person.root / "boot/loader"
    entries.rename(entries.with_name("kept"))
    entries.write_text("not a folder\n")
    outcome = go(machine, second)
    assert outcome.result is Result.ROLLBACK_FAILED  # the old entry can't be written either, and that is said
    assert machine.page == "one"
    assert machine.host.store_path_behind(machine.host.profile(KIND)) == first


@pytest.mark.parametrize("state", [State.TESTING, State.VERIFYING, State.ROLLING_BACK])
def test_a_crash_while_testing_is_undone_at_the_next_start(machine: Machine, state: State) -> None:
    first, second = machine.build("one"), machine.build("two")
    go(machine, first)
    with machine.journal.writer("a process that dies") as writer:
        lost = writer.begin(
            kind=KIND, action=Action.SWITCH, store_path=second, previous=first, previous_generation=1
        )
        writer.move(lost, state)
    outcome = go(machine, first)
    interrupted = machine.journal.deployments()[1]
    assert (interrupted.result, interrupted.store_path) == (Result.ROLLED_BACK, second)
    assert outcome.result is Result.UNCHANGED
    assert machine.page == "one"


def test_a_crash_after_the_confirmation_is_finished_at_the_next_start(machine: Machine) -> None:
    first, second = machine.build("one"), machine.build("two")
    go(machine, first)
    with machine.journal.writer("a process that dies") as writer:
        lost = writer.begin(
            kind=KIND, action=Action.SWITCH, store_path=second, previous=first, previous_generation=1
        )
        writer.move(lost, State.CONFIRMED)
    go(machine, second)
    assert machine.journal.deployments()[1].result is Result.COMMITTED
    assert machine.boots == second


def test_only_one_process_deploys_and_the_other_is_told_who(machine: Machine) -> None:
    first = machine.build("one")
    with machine.journal.writer("piste apply nixos acme/web"), pytest.raises(BlockedError) as caught:
        go(machine, first)
    assert caught.value.ref == "deployment-running"
    assert "piste apply nixos acme/web" in caught.value.message


def test_what_the_activation_says_is_told_and_kept(machine: Machine) -> None:
    go(machine, machine.build("one"))
    said = "restarting the following units: web.service"
    assert said in machine.heard.lines
    log = machine.journal.log_file(machine.journal.deployments()[0].deployment)
    assert said in log.read_text()


def test_a_path_that_is_no_system_is_refused_before_anything_is_touched(machine: Machine) -> None:
    other = machine.build("one")
    unit = next(path for path in (machine.person.root / "nix/store").iterdir() if path.name.endswith("-site"))
    with pytest.raises(PisteError) as caught:
        go(machine, f"/nix/store/{unit.name}")
    assert caught.value.ref == "not-a-configuration"
    assert machine.host.running(KIND) is None
    assert other


def test_generations_and_paths_that_are_not_there_are_named(machine: Machine) -> None:
    go(machine, machine.build("one"))
    with pytest.raises(UsageError, match="There is no generation 7"):
        go(machine, "7")
    with pytest.raises(UsageError, match="neither a generation nor a store path"):
        go(machine, "../../etc")
    with pytest.raises(PisteError, match="no generation before"):
        go(machine, None)


def test_history_tells_every_deployment_newest_first(machine: Machine) -> None:
    first, second = machine.build("one"), machine.build("two")
    go(machine, first)
    go(machine, second)
    rows = Journal(machine.host.state_folder(KIND)).deployments()
    assert [(row.store_path, row.result) for row in rows] == [
        (second, Result.COMMITTED),
        (first, Result.COMMITTED),
    ]
    assert all(row.finished_at and row.finished_at >= row.started_at for row in rows)


def test_a_process_that_is_killed_in_the_middle_is_undone_once_its_activation_has_ended(
    machine: Machine,
) -> None:
    first = machine.build("one")
    go(machine, first)
    gate = machine.person.root / "gate"
    os.mkfifo(gate)
    script = machine.source / "system/activate.sh"
    script.write_text(script.read_text() + "read line </gate\n")
    slow = machine.build("slow")
    argv = [str(PISTE), "rollback", "--to", slow]
    process = subprocess.Popen(argv, env=machine.person.environment, stderr=subprocess.DEVNULL)
    with gate.open("w") as opened:  # opens when the activation has come to its last line
        process.kill()
        process.wait()
        with pytest.raises(BlockedError, match="still runs"):
            go(machine, first)
        opened.write("go on\n")
    wait_for(lambda: not still_running(machine.host, KIND, machine.journal.folder))
    assert machine.host.running(KIND) == slow
    assert go(machine, first).result is Result.UNCHANGED
    assert machine.journal.deployments()[1].result is Result.ROLLED_BACK
    assert machine.page == "one"
