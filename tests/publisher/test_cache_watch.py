"""`piste cache watch`, `drain` and the hook between them and real Nix: whatever is killed, nothing that was
built is forgotten, and what was not pushed is said.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from piste.publisher import hook as hook_module
from piste.publisher.queue import Queue
from tests.hub.process import Hub, wait_for
from tests.running.command import PISTE, Finished, Person, check
from tests.running.nix import RUN
from tests.running.tenants import Tenant, make_tenant

WITHOUT_TROUBLE = 60.0


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@pytest.fixture
def script(publisher: Person, tenant: Tenant, queue: Path) -> str:
    return publisher.succeed("cache", "hook", "--name", tenant.name, "--queue", str(queue)).stdout.strip()


def build(person: Person, script: str, name: str, text: str = "") -> str:
    """Build one path, as a stock Nix does whose settings name the hook; its path."""
    extra = {"NIX_CONFIG": f"post-build-hook = {script}"} if script else {}
    expression = f'let {RUN} in run "{name}" "echo {text or os.urandom(8).hex()} > $out"'
    argv = ["nix-build", "--no-out-link", "--expr", expression]
    return check(person.run(*argv, extra=extra), argv).splitlines()[-1]


def run_hook(script: str, paths: str) -> subprocess.CompletedProcess[str]:
    drv = "/nix/store/" + "0" * 32 + "-x.drv"
    environment = {"OUT_PATHS": paths, "DRV_PATH": drv, "PATH": os.environ["PATH"]}
    return subprocess.run([script], env=environment, capture_output=True, text=True, check=False)


def waiting(queue: Path) -> list[str]:
    return [str(path) for entry in Queue(queue).waiting() for path in entry.paths]


def drain(person: Person, tenant: Tenant, queue: Path, *more: str) -> Finished:
    return person.piste("cache", "drain", "--name", tenant.name, "--queue", str(queue), "--json", *more)


def held(tenant: Tenant, path: str) -> bool:
    place = f"{tenant.cache_path}/{Path(path).name[:32]}.narinfo"
    return tenant.hub.request("GET", place, token=tenant.token).status == 200


class Watcher:
    """`piste cache watch` in the background, and what it says."""

    def __init__(self, person: Person, tenant: Tenant, queue: Path, log: Path) -> None:
        self.log = log
        argv = [str(PISTE), "cache", "watch", "--name", tenant.name, "--queue", str(queue), "--json"]
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                argv, env=person.environment, stdout=subprocess.PIPE, stderr=said, text=True
            )
        wait_for(lambda: self.says("Pushing to") or self.process.poll() is not None, WITHOUT_TROUBLE)

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        printed, _ = self.process.communicate(timeout=WITHOUT_TROUBLE)
        return self.process.returncode, printed


@pytest.fixture
def watching(
    publisher: Person, tenant: Tenant, queue: Path, tmp_path: Path
) -> Iterator[Callable[..., Watcher]]:
    made: list[Watcher] = []

    def start(**changed: Any) -> Watcher:
        person = changed.get("person", publisher)
        made.append(Watcher(person, changed.get("tenant", tenant), queue, tmp_path / f"log{len(made)}"))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


# the hook


def test_the_hook_puts_what_was_built_on_the_disk_in_milliseconds(script: str, queue: Path) -> None:
    paths = [f"/nix/store/{each:032d}-built" for each in range(3)]
    done = run_hook(script, " ".join(paths))
    assert (done.returncode, done.stderr) == (0, "")
    assert waiting(queue) == paths
    # All that it takes is a bare interpreter: what it imports beside that is its own few modules.
    argv = [sys.executable, "-I", "-S", "-X", "importtime", str(Path(hook_module.__file__)), str(queue)]
    said = subprocess.run(argv, env={}, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines() if "|" in line}
    assert not imported & {"site", "pathlib", "json", "subprocess", "typing", "msgspec", "cyclopts"}


def test_builds_at_the_same_time_do_not_disturb_each_other(script: str, queue: Path) -> None:
    paths = [f"/nix/store/{each:032d}-built" for each in range(60)]
    with ThreadPoolExecutor(12) as threads:
        assert all(done.returncode == 0 for done in threads.map(lambda path: run_hook(script, path), paths))
    assert sorted(waiting(queue)) == paths


def test_a_hook_that_can_not_write_says_so_and_the_build_goes_on(script: str, queue: Path) -> None:
    (queue / "new").rename(queue / "elsewhere")
    (queue / "part").rename(queue / "elsewhere too")
    done = run_hook(script, "/nix/store/" + "0" * 32 + "-lost")
    assert done.returncode == 0
    assert "-lost" in done.stderr
    assert "will not be pushed" in done.stderr


def test_a_hook_whose_interpreter_has_gone_still_queues(script: str, queue: Path) -> None:
    text = Path(script).read_text()
    assert sys.executable in text
    Path(script).write_text(text.replace(sys.executable, "/nonexistent/python"))
    path = "/nix/store/" + "0" * 32 + "-anyway"
    assert run_hook(script, path).returncode == 0
    assert waiting(queue) == [path]


# with real Nix


def test_what_is_built_is_pushed_while_somebody_watches(
    publisher: Person, tenant: Tenant, script: str, queue: Path, watching: Callable[..., Watcher]
) -> None:
    watcher = watching()
    first, second = build(publisher, script, "first"), build(publisher, script, "second")
    wait_for(lambda: held(tenant, first) and held(tenant, second), WITHOUT_TROUBLE)
    wait_for(lambda: not waiting(queue), WITHOUT_TROUBLE)
    code, _ = watcher.end()
    assert code == 0
    told = drain(publisher, tenant, queue)
    assert told.code == 0
    assert told.json == {"pushed": [first, second], "failed": [], "waiting": []}
    assert drain(publisher, tenant, queue).json["pushed"] == []


def test_a_watcher_that_is_killed_loses_nothing(
    publisher: Person, tenant: Tenant, script: str, queue: Path, watching: Callable[..., Watcher]
) -> None:
    watcher = watching()
    first = build(publisher, script, "first")
    wait_for(lambda: held(tenant, first), WITHOUT_TROUBLE)
    watcher.end(signal.SIGKILL)
    later = [build(publisher, script, f"later-{each}") for each in range(2)]
    assert not any(held(tenant, path) for path in later)
    told = drain(publisher, tenant, queue)
    assert told.code == 0, told.stderr
    assert set(told.json["pushed"]) == {first, *later}
    assert all(held(tenant, path) for path in later)


def test_a_watcher_that_is_killed_in_the_middle_of_a_push_loses_nothing(
    publisher: Person, tenant: Tenant, script: str, queue: Path, watching: Callable[..., Watcher]
) -> None:
    paths = [build(publisher, script, f"middle-{each}") for each in range(3)]

    def has_asked(requests: int) -> bool:
        return len(tenant.hub.log_lines("request")) >= requests or not waiting(queue)

    for later in (1, 3, 5):
        requests = len(tenant.hub.log_lines("request")) + later
        watcher = watching()
        wait_for(partial(has_asked, requests), WITHOUT_TROUBLE)
        watcher.end(signal.SIGKILL)
        assert {*waiting(queue), *Queue(queue).report().pushed} == {*paths}
    told = drain(publisher, tenant, queue)
    assert (told.code, set(told.json["pushed"])) == (0, set(paths))
    assert all(held(tenant, path) for path in paths)


def test_a_second_watcher_is_refused_and_drain_waits_for_the_first(
    publisher: Person, tenant: Tenant, script: str, queue: Path, watching: Callable[..., Watcher]
) -> None:
    watcher = watching()
    again = publisher.piste("cache", "watch", "--name", tenant.name, "--queue", str(queue), "--json")
    assert (again.code, again.problem["ref"]) == (1, "already-watching")
    assert str(watcher.process.pid) in again.problem["message"]
    path = build(publisher, script, "theirs")
    told = drain(publisher, tenant, queue)
    assert (told.code, told.json["pushed"]) == (0, [path])
    assert held(tenant, path)


def test_while_the_hub_is_away_it_says_so_and_goes_on_when_it_is_back(
    publisher: Person, queue: Path, tmp_path: Path, watching: Callable[..., Watcher]
) -> None:
    hub = Hub(tmp_path / "own hub")
    try:
        own = make_tenant(hub.start(), "away", "web")
        person = Person(publisher.folder, hub.url, own.token)
        script = person.succeed("cache", "hook", "--name", own.name, "--queue", str(queue)).stdout.strip()
        watcher = watching(person=person, tenant=own)
        hub.stop()
        path = build(person, script, "waiting")
        wait_for(lambda: watcher.says("1 built paths wait; the next attempt is in"), WITHOUT_TROUBLE)
        # Whoever asks meanwhile is told what is missing, with a status that says so.
        impatient = drain(person, own, queue, "--timeout", "1s")
        assert (impatient.code, impatient.json["waiting"]) == (4, [path])
        assert waiting(queue) == [path]
        hub.start()
        wait_for(lambda: held(own, path), WITHOUT_TROUBLE)
        wait_for(lambda: not waiting(queue), WITHOUT_TROUBLE)
        assert watcher.end()[0] == 0
    finally:
        hub.close()


def test_a_path_that_can_not_be_pushed_keeps_no_other_back_and_is_named(
    publisher: Person, tenant: Tenant, script: str, queue: Path
) -> None:
    paths = [build(publisher, script, f"many-{each}") for each in range(4)]
    check(publisher.run("nix-store", "--delete", paths[1]))
    told = drain(publisher, tenant, queue)
    assert told.code == 1
    assert told.json["pushed"] == [paths[0], paths[2], paths[3]]
    (failed,) = told.json["failed"]
    assert (failed["path"], failed["ref"]) == (paths[1], "path-not-valid")
    assert paths[1] in told.stderr
    # It is told once; and built again, it is pushed like any other.
    assert drain(publisher, tenant, queue).json == {"pushed": [], "failed": [], "waiting": []}


def test_a_refused_credential_gives_up_nothing(
    publisher: Person, tenant: Tenant, script: str, queue: Path
) -> None:
    path = build(publisher, script, "refused")
    wrong = tenant.hub.make_token(tenant.organization, kind="device")
    reader = Person(publisher.folder, tenant.hub.url, wrong)
    began = time.monotonic()
    told = drain(reader, tenant, queue)
    assert (told.code, told.json["waiting"]) == (6, [path])
    assert time.monotonic() - began < WITHOUT_TROUBLE  # not after ten minutes: waiting would not help
    assert drain(publisher, tenant, queue).json["pushed"] == [path]


def test_a_command_is_watched_from_its_beginning_to_its_end(
    publisher: Person, tenant: Tenant, queue: Path
) -> None:
    expression = f'let {RUN} in run "watched" "echo watched > $out"'
    common = ("cache", "watch", "--name", tenant.name, "--queue", str(queue), "--json", "--")
    done = publisher.piste(*common, "nix-build", "--no-out-link", "--expr", expression)
    assert done.code == 0, done.stderr
    path, _, report = done.stdout.partition("\n")
    assert path in report
    assert held(tenant, path)
    failing = publisher.piste(*common, "sh", "-c", "exit 7")
    assert failing.code == 7
    wrong = publisher.piste("cache", "watch", "--name", f"{tenant.organization}/none", "--", "true")
    assert wrong.code == 1
    assert "not-found" in wrong.stderr


def test_a_daemon_that_would_pass_over_the_hook_is_an_error_before_anything_is_built(
    publisher: Person, tenant: Tenant, queue: Path, tmp_path: Path
) -> None:
    socket, folder = tmp_path / "socket", tmp_path / "store"
    environment = publisher.environment | {
        "NIX_STATE_DIR": f"{folder}/nix/var/nix",
        "NIX_REMOTE": "",
        "NIX_DAEMON_SOCKET_PATH": str(socket),
        "NIX_CONFIG": "trusted-users = nobody",
    }
    argv = ["nix-daemon", "--store", f"local?root={folder}"]
    daemon = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.exists(), WITHOUT_TROUBLE)
        user = Person(
            publisher.folder, publisher.hub, publisher.token, extra={"NIX_REMOTE": f"unix://{socket}"}
        )
        common = ("cache", "watch", "--name", tenant.name, "--queue", str(queue), "--json")
        done = user.piste(*common, "--", "touch", str(tmp_path / "ran"))
        assert (done.code, done.problem["ref"]) == (1, "hook-not-run")
        assert not (tmp_path / "ran").exists()
    finally:
        daemon.terminate()
        daemon.wait()
