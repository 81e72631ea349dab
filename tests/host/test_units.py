"""Where systemd runs: the switch is a unit under nixos-rebuild's name, and health is measured by before."""

import os
import time
from pathlib import Path

import pytest

from piste.host import activate as activation
from piste.host import verify
from piste.host.activate import Configuration, activate, still_running
from piste.host.place import Host
from piste.host.records import Action, Kind, Watcher
from piste.host.verify import activation_failed, failing_units, settled_failures
from piste.lib import process
from piste.nixcmd.store import Store

# Stands in for systemd, which the machine of the tests need not have: does what it is told, and writes it
# down.
SYSTEMD_RUN = """#!/bin/sh
printf '%s\\n' "$@" > "@folder@/record"
for word in "$@"; do
    case "$word" in
    --property=StandardOutput=append:*) log=${word#--property=StandardOutput=append:} ;;
    esac
done
while [ "${1#--}" != "$1" ]; do shift; done
"$@" >> "$log" 2>&1
"""
SYSTEMCTL = """#!/bin/sh
cat "@folder@/listed"
"""
# A service that was started at a time, and has failed when it is looked at for the third time.
SHORT_LIVED = """#!/bin/sh
case $1 in
show) printf 'ActiveEnterTimestampMonotonic=%s\n\nActiveEnterTimestampMonotonic=0\n' @start@ ;;
*)
    echo look >> "@folder@/looks"
    [ "$(wc -l < "@folder@/looks")" -lt 3 ] || echo 'web.service loaded failed failed The page'
    ;;
esac
"""
LISTED = """\
sshd.service        loaded active     running      OpenSSH
old.service         loaded failed     failed       Has failed for a year
flapping.service    loaded activating auto-restart Starts again and again
web.service         loaded active     exited       A one-shot
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
        (folder / name).write_text(text.replace("@folder@", str(tmp_path)))
        (folder / name).chmod(0o755)
    (tmp_path / "listed").write_text(LISTED)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(verify, "runs_systemd", lambda: True)
    monkeypatch.setattr(activation, "runs_systemd", lambda: True)
    return Host(Store("auto"))


def system(folder: Path, status: int) -> Configuration:
    script = folder / "system/bin/switch-to-configuration"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/sh\necho doing $1\nexit {status}\n")
    script.chmod(0o755)
    return Configuration(Host(Store("auto")), Kind.NIXOS, str(folder / "system"))


@pytest.mark.parametrize("status", [0, 4, 100])
def test_a_switch_is_a_unit_and_its_status_is_what_counts(machine: Host, tmp_path: Path, status: int) -> None:
    log = tmp_path / "logs/one.log"
    assert activate(system(tmp_path, status), Action.TEST, log, Watcher()) == status
    record = (tmp_path / "record").read_text().splitlines()
    assert "--unit=nixos-rebuild-switch-to-configuration" in record
    assert {"--wait", "--collect", "--service-type=exec"} <= set(record)
    assert not any(word.startswith("--pipe") for word in record)
    assert log.read_text() == "doing test\n"


def test_units_that_failed_or_start_again_and_again_are_failing(machine: Host) -> None:
    assert failing_units(machine) == {"old.service", "flapping.service"}


def test_a_folder_that_stands_for_a_machine_has_no_units_of_its_own(machine: Host, tmp_path: Path) -> None:
    assert failing_units(Host.at("auto", tmp_path)) == frozenset()


def _short_lived(folder: Path, start: float) -> None:
    text = SHORT_LIVED.replace("@folder@", str(folder)).replace("@start@", str(int(start * 1_000_000)))
    (folder / "bin/systemctl").write_text(text)


def test_a_service_that_was_just_started_has_to_last(machine: Host, tmp_path: Path) -> None:
    began = time.monotonic()
    _short_lived(tmp_path, began + 0.001)
    assert settled_failures(machine, began, frozenset()) == {"web.service"}


def test_where_no_service_was_started_nothing_is_waited_for(machine: Host, tmp_path: Path) -> None:
    began = time.monotonic()
    _short_lived(tmp_path, began - 1)
    assert settled_failures(machine, began, frozenset()) == frozenset()
    assert (tmp_path / "looks").read_text() == "look\n"


OLD, NEW = frozenset({"old.service"}), frozenset({"old.service", "new.service"})


@pytest.mark.parametrize(
    ("status", "before", "after", "failed"),
    [
        (0, OLD, OLD, False),
        (0, OLD, frozenset(), False),
        (0, OLD, NEW, True),  # the status is that of the switch; the unit failed right after
        (4, OLD, OLD, False),  # what was failing before fails again
        (4, OLD, NEW, True),
        (4, frozenset(), frozenset(), True),  # a unit failed, whatever became of it since
        (1, OLD, OLD, True),
        (2, frozenset(), frozenset(), True),
        (-9, OLD, OLD, True),
    ],
)
def test_what_failed_before_is_no_failure_of_the_release(
    status: int, before: frozenset[str], after: frozenset[str], failed: bool
) -> None:
    assert activation_failed(status, before, after) is failed


def test_a_home_is_activated_outside_of_the_unit_and_is_looked_for_there(
    machine: Host, tmp_path: Path
) -> None:
    assert not still_running(machine, Kind.HOME_MANAGER, tmp_path)
    (tmp_path / "activating").write_text(f"{os.getpid()} {process.born(os.getpid())}\n")
    assert still_running(machine, Kind.HOME_MANAGER, tmp_path)
    (tmp_path / "activating").write_text(f"{os.getpid()} 1\n")
    assert not still_running(machine, Kind.HOME_MANAGER, tmp_path)
