"""A hub that is killed between two steps, or in one: the next step goes on where the last answer left off."""

from collections.abc import Callable

import pytest

from tests.dialects.flakehub_push.pusher import FLAKE, Pusher, pack
from tests.hub.postgres import Postgres
from tests.hub.process import Hub
from tests.hub.publishing import Acme, stored_files


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_kill_9_between_the_steps_loses_nothing_that_was_answered(
    make_hub: Callable[..., Hub], engine: str, request: pytest.FixtureRequest
) -> None:
    database = None
    if engine == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.create()
    hub = make_hub(database=database)
    acme = Acme(hub, visibility="public")
    push = Pusher(hub, acme.member, f"{acme.organization}/new", "1.0.0")
    push.tarball = pack({"flake.nix": FLAKE, "noise": bytes(range(256)) * 4096})
    for step in (push.stage, push.put, push.publish, push.publish):
        assert step().status == 200
        hub.kill()
        hub.start()
    acme.project = "new"
    assert [each["version"] for each in acme.ask("GET", f"{acme.base}/releases").json()] == ["1.0.0"]


def test_each_step_may_come_to_another_process_of_the_hub(
    make_hub: Callable[..., Hub], postgres: Postgres
) -> None:
    database = postgres.create()
    first = make_hub(database=database)
    second = make_hub(database=database, data=first.data)
    acme = Acme(first, visibility="public")
    push = Pusher(first, acme.member, f"{acme.organization}/web", "1.0.0")
    assert push.stage().status == 200
    push.hub = second
    assert push.put(url=push.url.replace(first.url, second.url)).status == 200
    push.hub = first
    assert push.put().status == 401
    assert push.publish().status == 200


def test_kill_9_in_the_middle_of_an_upload_leaves_its_address_good(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub()
    acme = Acme(hub, visibility="public")
    push = Pusher(hub, acme.member, f"{acme.organization}/web", "1.0.0")
    push.tarball = pack({"flake.nix": FLAKE, "noise": bytes(range(256)) * 4096})
    push.stage()
    connection = hub.connect()
    connection.putrequest("PUT", push.url.removeprefix(hub.url))
    connection.putheader("Content-Length", str(len(push.tarball)))
    connection.endheaders()
    connection.send(push.tarball[: len(push.tarball) // 2])
    hub.kill()
    connection.close()
    hub.start()
    assert stored_files(hub, "spool") == []
    assert (push.put().status, push.publish().status) == (200, 200)
