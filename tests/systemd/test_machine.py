"""Releases come to a machine that boots, with a systemd of its own: nothing stands in for anything."""

import os
import random
import sys
import threading
import time
from collections import Counter

import pytest

from piste.host.activate import UNIT
from tests.systemd.conftest import DIES_LATER, NO_PAGE, ONE, TWO, Site

pytestmark = pytest.mark.soak
KILLS = 15
# The machine has no pkill.
KILL_WAITER = """
for place in /proc/[0-9]*; do
    [ "$(cat $place/comm)" != systemd-run ] || kill -9 ${place#/proc/}
done
"""


def test_a_release_runs_from_its_unit_and_what_it_says_is_kept(site: Site) -> None:
    machine = site.machine
    with machine.gate() as gate:
        started = machine.start(*site.command(TWO))
        gate.reached()
        shown = machine.ask("systemctl", "show", UNIT, "--property=Transient,ActiveState,ExecStart")
        assert {"Transient=yes", "ActiveState=active"} <= set(shown.splitlines())
        assert f"{site.path(TWO)}/bin/switch-to-configuration test" in shown
    done = started.end()
    assert done.code == 0, done.stderr
    assert (done.json["result"], done.json["generation"]) == ("committed", 2)
    said = "stopping the following units: web.service"
    assert said in done.stderr
    assert said in machine.ask("sh", "-c", "cat /var/lib/piste/logs/*.log")
    site.check_runs(TWO)
    assert not machine.switching


def test_a_release_whose_unit_fails_is_undone_and_the_unit_is_named(site: Site) -> None:
    done = site.apply(NO_PAGE)
    assert (done.code, done.json["result"]) == (3, "rolled-back")
    assert done.json["newly_failed_units"] == ["web.service"]
    assert "status 4" in done.json["reason"]
    site.check_runs(ONE)
    assert site.failed_units() == []


def test_a_unit_that_ends_soon_after_its_start_fails_the_release(site: Site) -> None:
    done = site.apply(DIES_LATER)
    assert (done.code, done.json["result"]) == (3, "rolled-back")
    assert done.json["newly_failed_units"] == ["flapping.service"]
    site.check_runs(ONE)


def test_a_unit_that_failed_before_does_not_fail_a_release(site: Site) -> None:
    machine = site.machine
    machine.file("/var/lib/fine").unlink()
    assert machine.run("systemctl", "restart", "old.service").code != 0
    assert site.failed_units() == ["old.service"]
    done = site.apply(TWO)
    assert (done.code, done.json["result"]) == (0, "committed"), done.stderr
    assert "the following units failed: old.service" in done.stderr
    site.check_runs(TWO)
    failed = site.apply(NO_PAGE)
    assert (failed.code, failed.json["newly_failed_units"]) == (3, ["web.service"])
    site.check_runs(TWO)


def test_an_activation_outlives_the_command_and_the_next_one_undoes_it(site: Site) -> None:
    machine = site.machine
    with machine.gate() as gate:
        started = machine.start(*site.command(TWO))
        gate.reached()
        started.kill()
        assert machine.switching
        refused = site.apply(ONE)
        assert (refused.code, refused.problem["ref"]) == (5, "activation-running")
    machine.wait_until_switched()
    assert (machine.running, site.page) == (site.path(TWO), "two")
    assert (machine.profile, machine.boots) == (site.path(ONE), site.path(ONE))
    done = site.apply(ONE)
    assert (done.code, done.json["result"]) == (0, "unchanged")
    assert "was interrupted while testing" in done.stderr
    site.check_runs(ONE)
    assert site.history()[:2] == [(ONE, "unchanged"), (TWO, "rolled-back")]


def test_a_switch_of_somebody_else_is_not_disturbed(site: Site) -> None:
    machine = site.machine
    by_hand = ["systemd-run", "--collect", "--quiet", "--wait", "--service-type=exec", f"--unit={UNIT}"]
    with machine.gate() as gate:
        other = machine.start(*by_hand, f"{site.path(ONE)}/bin/switch-to-configuration", "test")
        gate.reached()
        done = site.apply(TWO)
        assert (done.code, done.json["result"]) == (5, "blocked"), done.stderr
        assert f"{site.path(ONE)}/bin/switch-to-configuration test" in done.json["reason"]
        back = machine.run("piste", "rollback", "--to", site.path(TWO), "--json")
        assert (back.code, back.json["result"]) == (5, "blocked"), back.stderr
        assert machine.switching
    assert other.end().code == 0
    site.check_runs(ONE)
    assert site.apply(TWO).json["result"] == "committed"
    site.check_runs(TWO)


def test_a_power_cut_while_a_release_is_tested_leaves_the_system_before(site: Site) -> None:
    machine = site.machine
    with machine.gate() as gate:
        machine.start(*site.command(TWO))
        gate.reached()
        machine.switch_off()
    machine.boot()
    site.check_runs(ONE)
    done = site.apply(TWO)
    assert (done.code, done.json["result"]) == (0, "committed"), done.stderr
    assert site.history()[:2] == [(TWO, "committed"), (TWO, "rolled-back")]
    machine.switch_off()
    machine.boot()
    site.check_runs(TWO)


def test_what_is_only_tested_is_gone_after_a_reboot(site: Site) -> None:
    machine = site.machine
    assert site.apply(TWO, "test").json["result"] == "tested"
    assert (machine.running, site.page) == (site.path(TWO), "two")
    machine.switch_off()
    machine.boot()
    site.check_runs(ONE)


def test_what_is_staged_runs_after_a_reboot(site: Site) -> None:
    machine = site.machine
    assert site.apply(TWO, "boot").json["result"] == "staged"
    assert (machine.running, site.page) == (site.path(ONE), "one")
    machine.switch_off()
    machine.boot()
    site.check_runs(TWO)


def test_the_way_back_is_a_release_too_and_history_tells_all_of_it(site: Site) -> None:
    machine = site.machine
    site.apply(TWO)
    site.apply(NO_PAGE)
    back = machine.run("piste", "rollback", "--json")
    assert (back.code, back.json["result"], back.json["version"]) == (0, "committed", ONE)
    site.check_runs(ONE)
    assert site.history() == [
        (ONE, "committed"),
        (NO_PAGE, "rolled-back"),
        (TWO, "committed"),
        (ONE, "committed"),
    ]


def test_a_lost_wait_for_the_unit_does_not_undo_what_still_runs(site: Site) -> None:
    machine = site.machine
    with machine.gate() as gate:
        started = machine.start(*site.command(TWO))
        gate.reached()
        machine.ask("sh", "-c", KILL_WAITER)
    done = started.end()
    machine.wait_until_switched()
    assert (done.code, done.json["result"]) == (3, "rolled-back"), done.stderr
    site.check_runs(ONE)


@pytest.mark.timeout(600)
def test_a_command_killed_at_any_moment_leaves_a_machine_that_the_next_one_brings_there(site: Site) -> None:
    seed = int(os.environ.get("PISTE_KILL_SEED") or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"PISTE_KILL_SEED={seed}\n")
    draw = random.Random(seed)
    machine = site.machine
    began = time.monotonic()
    site.apply(TWO)
    length = time.monotonic() - began
    there, wanted = TWO, ONE
    met: Counter[str] = Counter()
    for number in range(KILLS):
        started = machine.start(*site.command(wanted))
        threading.Event().wait(draw.random() * length)
        started.kill()
        machine.wait_until_switched()
        where = f"kill {number}, seed {seed}"
        assert {machine.profile, machine.boots} <= {site.path(there), site.path(wanted)}, where
        done = site.apply(wanted)
        assert done.code == 0, f"{where}: {done.stderr}"
        site.check_runs(wanted)
        assert all(result != "rollback-failed" for _, result in site.history()), where
        met[site.history()[1][1]] += 1
        there, wanted = wanted, there
    sys.stdout.write(f"{KILLS} kills within {length:.1f} s each; the deployments before: {dict(met)}\n")


def test_an_activation_that_starts_systemd_itself_anew_is_followed_to_its_end(site: Site) -> None:
    machine = site.machine
    machine.file("/run/reexec").touch()
    done = site.apply(TWO)
    assert (done.code, done.json["result"]) == (0, "committed"), done.stderr
    site.check_runs(TWO)


def test_a_service_that_applies_may_be_killed_with_all_that_it_started(site: Site) -> None:
    machine = site.machine
    agent = [
        "systemd-run",
        "--wait",
        "--collect",
        "--quiet",
        "--unit=agent",
        f"--setenv=PISTE_HUB={machine.hub}",
    ]
    with machine.gate() as gate:
        started = machine.start(*agent, "--setenv=HOME=/root", *site.command(TWO))
        gate.reached()
        machine.ask("systemctl", "kill", "--signal=KILL", "agent.service")
        assert started.end().code != 0
        assert machine.switching
    machine.wait_until_switched()
    assert (machine.running, machine.profile) == (site.path(TWO), site.path(ONE))
    assert site.apply(TWO).json["result"] == "committed"
    site.check_runs(TWO)
    assert site.history() == [(TWO, "committed"), (TWO, "rolled-back"), (ONE, "committed")]
