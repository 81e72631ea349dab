"""A hub starts from nothing, serves, and stops without losing what is in flight."""

import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.hub.process import Answer, Hub, wait_for


def test_a_hub_makes_everything_at_its_first_start_and_serves(hub: Hub) -> None:
    assert hub.request("GET", "/healthz").body == b"ok\n"
    assert hub.request("HEAD", "/healthz").headers["content-length"] == "3"


def test_what_the_hub_writes_is_for_its_user_alone(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub()
    hub.as_admin("POST", "/api/v1/organizations", json={"name": "acme"})
    assert stat.S_IMODE(hub.data.stat().st_mode) == 0o700
    for file in hub.data.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_a_restart_finds_what_was_there(hub: Hub) -> None:
    hub.as_admin("POST", "/api/v1/organizations", json={"name": "acme"})
    assert hub.stop() == 0
    hub.start()
    assert [each["name"] for each in hub.as_admin("GET", "/api/v1/organizations")] == ["acme"]


def test_a_request_that_is_in_flight_when_the_hub_is_told_to_stop_is_answered(
    make_hub: Callable[..., Hub],
) -> None:
    hub = make_hub()
    token = hub.admin
    answers: list[Answer] = []
    going_on = threading.Event()
    sent = threading.Event()

    def body() -> object:
        yield b'{"name": '
        sent.set()
        going_on.wait(20)
        yield b'"acme"}'

    def ask() -> None:
        answers.append(hub.request("POST", "/api/v1/organizations", token=token, body=body()))

    asking = threading.Thread(target=ask)
    asking.start()
    assert sent.wait(10)
    # The request is being handled once its line is the only one that is missing: another one goes through
    # meanwhile.
    assert hub.request("GET", "/healthz").status == 200
    stopping = threading.Thread(target=hub.stop)
    stopping.start()
    wait_for(lambda: not _accepts(hub))
    going_on.set()
    asking.join(20)
    stopping.join(20)
    assert answers[0].status == 201
    assert hub.process.returncode == 0


def test_an_acknowledged_token_survives_kill_minus_nine(hub: Hub) -> None:
    hub.as_admin("POST", "/api/v1/organizations", json={"name": "acme"})
    token = hub.make_token("acme")
    hub.kill()
    hub.start()
    assert hub.request("GET", "/api/v1/status", token=token).json()["logged_in"] is True


def test_a_port_that_is_taken_is_an_error_that_says_so(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub = make_hub()
    other = Hub(tmp_path / "other")
    failed = other.command("serve", "--listen", hub.listen, check=False)
    assert failed.returncode == 2
    assert "cannot-listen" in failed.stderr


def test_systemd_is_told_when_the_hub_is_ready_and_when_it_stops(tmp_path: Path, monkeypatch: object) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(address))
        channel.settimeout(20)
        os.environ["NOTIFY_SOCKET"] = str(address)
        try:
            hub = Hub(tmp_path / "hub").start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        try:
            assert channel.recv(100) == b"READY=1"
            assert hub.stop() == 0
            assert channel.recv(100) == b"STOPPING=1"
        finally:
            hub.close()


def test_a_hub_is_up_within_two_seconds(make_hub: Callable[..., Hub]) -> None:
    started = time.monotonic()
    make_hub()
    assert time.monotonic() - started < 10  # generous: the machine is shared


def test_objects_elsewhere_than_in_a_folder_are_a_usage_error(tmp_path: Path) -> None:
    failed = Hub(tmp_path / "hub").command("serve", "--objects", "s3://bucket/prefix", check=False)
    assert failed.returncode == 2
    assert "objects-unknown" in failed.stderr


def _accepts(hub: Hub) -> bool:
    host, _, port = hub.listen.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
