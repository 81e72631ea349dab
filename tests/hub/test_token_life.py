"""Device tokens, the rotation of tokens and of their keys, and what ends with a membership."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from piste.hub.access.revocations import STALE_SECONDS
from piste.hub.errors import HubError
from piste.hub.operations.bootstrap import make_admin_token
from piste.hub.services import Services
from tests.hub.conftest import RunWithServices
from tests.hub.process import Answer, Hub
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE

BOUND = {"kind": "resolve-only", "project": "web", "requirement": "1", "attribute": ATTRIBUTE}


def listed(hub: Hub, organization: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = hub.as_admin("GET", f"/api/v1/organizations/{organization}/tokens")
    return found


def id_of(hub: Hub, organization: str, kind: str) -> str:
    (found,) = [each["id"] for each in listed(hub, organization) if each["kind"] == kind]
    return str(found)


def rotate(hub: Hub, organization: str, token: str, by: str | None = None, **fields: object) -> Answer:
    place = f"/api/v1/organizations/{organization}/tokens/{token}/rotate"
    return hub.request("POST", place, token=by or hub.admin, json=fields)


def ends_within_a_second(ask: Callable[[], int], status: int = 401) -> None:
    """Whatever begins one second after this has that status; busy machines answer as late as they like."""
    acknowledged = time.monotonic()
    while (began := time.monotonic()) and ask() != status:
        assert began - acknowledged < 1.0


def test_a_device_reads_its_organizations_projects_and_caches_and_changes_nothing(shared_hub: Hub) -> None:
    acme = Acme(shared_hub)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    device = shared_hub.make_token(acme.organization, kind="device")
    status = shared_hub.request("GET", "/api/v1/status", token=device).json()
    assert (status["kind"], status["user"], status["organizations"]) == (
        "device",
        acme.organization,
        [acme.organization],
    )
    assert list(status["public_keys"]) == [acme.organization]
    for path in (
        acme.base,
        f"{acme.base}/releases",
        f"{acme.base}/releases/1/source",
        f"{acme.cache}/nix-cache-info",
    ):
        assert shared_hub.request("GET", path, token=device).status == 200, path
    assert acme.narinfo(closure[0], token=device).status == 200
    assert acme.resolve("1", token=device).json()["token"].startswith("piste_closure_")
    for method, path in (
        ("GET", f"/api/v1/organizations/{acme.organization}"),
        ("GET", f"/api/v1/organizations/{acme.organization}/tokens"),
        ("POST", f"{acme.base}/publications"),
        ("PUT", f"{acme.cache}/nix-cache-info"),
        ("DELETE", acme.base),
    ):
        assert shared_hub.request(method, path, token=device).status == 403, (method, path)


def test_only_an_admin_makes_device_tokens(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    place = f"/api/v1/organizations/{acme.organization}/tokens"
    asked = {"kind": "device", "description": "x"}
    assert sqlite_hub.request("POST", place, token=acme.member, json=asked).status == 403
    admin = sqlite_hub.make_member(acme.organization, "ada", "admin")
    made = sqlite_hub.request("POST", place, token=admin, json=asked)
    assert made.status == 201
    assert made.json()["token"].startswith("piste_device_")


@pytest.mark.parametrize("kind", ["user", "device", "resolve-only"])
def test_a_rotated_token_and_its_successor_may_the_same_for_the_overlap(sqlite_hub: Hub, kind: str) -> None:
    acme = Acme(sqlite_hub)
    acme.publish("1.0.0", chain("app"))
    fields = BOUND if kind == "resolve-only" else {"kind": kind}
    old = sqlite_hub.make_token(acme.organization, **fields, expires_in=90 * 86400)
    number = max(each["id"] for each in listed(sqlite_hub, acme.organization))
    made = rotate(sqlite_hub, acme.organization, number, overlap=3600)
    assert made.status == 201, made.body
    new = made.json()
    for token in (old, new["token"]):
        assert acme.resolve("1", token=token).status == 200
    rows = {each["id"]: each for each in listed(sqlite_hub, acme.organization)}
    assert rows[number]["replaced_by"] == new["id"]
    assert rows[number]["expires_at"] - time.time() * 1e6 <= 3600 * 1e6
    same = ("kind", "description", "project", "requirement", "attribute", "minimum_version", "person")
    assert {name: rows[number][name] for name in same} == {name: rows[new["id"]][name] for name in same}
    lived = rows[new["id"]]["expires_at"] - rows[new["id"]]["created_at"]
    assert lived == 90 * 86400 * 1_000_000
    assert rotate(sqlite_hub, acme.organization, number).status == 400, "a second time"
    assert rotate(sqlite_hub, acme.organization, new["id"]).status == 201


def test_a_rotation_without_overlap_ends_the_old_token_and_its_closures(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    old = sqlite_hub.make_token(acme.organization, **BOUND)
    reading = acme.resolve("1", token=old).json()["token"]
    assert acme.narinfo(closure[0], token=reading).status == 200
    number = id_of(sqlite_hub, acme.organization, "resolve-only")
    assert rotate(sqlite_hub, acme.organization, number, overlap=0).status == 201
    assert acme.resolve("1", token=old).status == 401
    ends_within_a_second(lambda: acme.narinfo(closure[0], token=reading).status)


@pytest.mark.parametrize("overlap", [-1, 1, 59, 91 * 86400])
def test_an_overlap_that_makes_no_sense_is_refused(sqlite_hub: Hub, overlap: int) -> None:
    acme = Acme(sqlite_hub)
    number = id_of(sqlite_hub, acme.organization, "user")
    assert rotate(sqlite_hub, acme.organization, number, overlap=overlap).ref == "bad-request"


def test_nobody_rotates_a_token_into_rights_of_somebody_else(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    sqlite_hub.make_member(acme.organization, "olga", "owner")
    admin = sqlite_hub.make_member(acme.organization, "ada", "admin")
    rows = {each["person"]: each["id"] for each in listed(sqlite_hub, acme.organization)}
    publisher = f"{acme.organization}-publisher"
    assert rotate(sqlite_hub, acme.organization, rows["olga"], by=admin).status == 403
    assert rotate(sqlite_hub, acme.organization, rows["ada"], by=acme.member).status == 404
    assert rotate(sqlite_hub, acme.organization, rows[publisher], by=acme.member).status == 201


def test_a_removed_members_tokens_and_closures_end_with_the_membership(
    make_hub: Callable[..., Hub], database_url: str | None
) -> None:
    first = make_hub(database=database_url)
    second = make_hub(data=first.data, database=database_url)
    acme = Acme(first)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    device = first.make_token(acme.organization, kind="device")
    reading = acme.resolve("1").json()["token"]
    place = f"{acme.cache}/{closure[0].path.hash_part}.narinfo"
    for hub in (first, second):
        assert [hub.request("GET", place, token=token).status for token in (acme.member, reading)] == [
            200,
            200,
        ]
    first.as_admin(
        "DELETE", f"/api/v1/organizations/{acme.organization}/members/{acme.organization}-publisher"
    )
    for hub in (first, second):
        assert hub.request("GET", "/api/v1/status", token=acme.member).status == 401
        ends_within_a_second(lambda hub=hub: hub.request("GET", place, token=acme.member).status)  # type: ignore[misc]
        ends_within_a_second(lambda hub=hub: hub.request("GET", place, token=reading).status)  # type: ignore[misc]
        assert hub.request("GET", place, token=device).status == 200


def test_closures_that_a_token_of_the_whole_hub_was_given_end_for_that_organization_alone(
    make_hub: Callable[..., Hub], database_url: str | None
) -> None:
    hub = make_hub(database=database_url)
    one, two = Acme(hub), Acme(hub)
    closures = [chain("one"), chain("two")]
    for acme, closure in zip((one, two), closures, strict=True):
        acme.publish("1.0.0", closure)
        hub.as_admin(
            "POST",
            f"/api/v1/organizations/{acme.organization}/members",
            json={"person": "both", "role": "member"},
        )
    token = confine_to_nothing(hub, hub.make_token(one.organization, person="both"))
    readings = [acme.resolve("1", token=token).json()["token"] for acme in (one, two)]
    hub.as_admin("DELETE", f"/api/v1/organizations/{one.organization}/members/both")
    ends_within_a_second(lambda: one.narinfo(closures[0][0], token=readings[0]).status)
    assert two.narinfo(closures[1][0], token=readings[1]).status == 200
    assert hub.request("GET", "/api/v1/status", token=token).json()["organizations"] == [two.organization]
    assert one.resolve("1", token=token).status == 404


def confine_to_nothing(hub: Hub, token: str) -> str:
    """The same token, as signing in will make it: wherever its person may."""
    import asyncio

    from piste.hub.access.token_text import hash_token
    from piste.hub.db.open import open_database
    from piste.hub.settings import make_settings
    from piste.lib.clock import wall_clock

    async def change() -> None:
        settings = make_settings(hub.data, listen="127.0.0.1:1", database=hub.database)
        database = await open_database(settings, wall_clock)
        async with database.transaction() as connection:
            await connection.run("UPDATE token SET organization = NULL WHERE hash = $1", hash_token(token))
        await database.close()

    asyncio.run(change())
    return token


def test_a_lesser_role_holds_for_what_was_read_a_moment_ago(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    admin = sqlite_hub.make_member(acme.organization, "ada", "admin")
    place = f"/api/v1/organizations/{acme.organization}/members"
    info = f"{acme.cache}/nix-cache-info"
    assert sqlite_hub.request("GET", info, token=admin).status == 200
    sqlite_hub.as_admin("DELETE", f"{place}/ada")
    ends_within_a_second(lambda: sqlite_hub.request("GET", info, token=admin).status)


def test_the_key_of_closure_tokens_is_rotated_with_and_without_overlap(
    make_hub: Callable[..., Hub], database_url: str | None
) -> None:
    hub = make_hub(database=database_url)
    acme = Acme(hub)
    closure = chain("app")
    acme.publish("1.0.0", closure)
    before = acme.resolve("1").json()["token"]
    assert acme.narinfo(closure[0], token=before).status == 200
    hub.command("keys", "rotate", "--tokens")
    between = acme.resolve("1").json()["token"]
    assert before[:30] != between[:30], "made with another key"
    for token in (before, between):
        assert acme.narinfo(closure[0], token=token).status == 200
    hub.command("keys", "rotate", "--tokens", "--at-once")
    after = acme.resolve("1").json()["token"]
    for token in (before, between):
        ends_within_a_second(lambda token=token: acme.narinfo(closure[0], token=token).status)  # type: ignore[misc]
    assert acme.narinfo(closure[0], token=after).status == 200


def test_the_last_use_tells_time_address_and_what_the_client_calls_itself(
    make_hub: Callable[..., Hub],
) -> None:
    hub = make_hub("--trusted-proxy", "127.0.0.1")
    acme = Acme(hub)
    device = hub.make_token(acme.organization, kind="device")
    headers = {"X-Forwarded-For": "192.0.2.7, 198.51.100.9", "Piste-Host": "web-1.example.org"}
    hub.request("GET", f"{acme.cache}/nix-cache-info", token=device, headers=headers)
    hub.request("GET", "/api/v1/status", token=acme.member, headers={"Piste-Host": "two words"})
    hub.stop()
    hub.start()
    rows = {each["kind"]: each for each in listed(hub, acme.organization)}
    assert (rows["device"]["last_used_address"], rows["device"]["last_used_host"]) == (
        "198.51.100.9",
        "web-1.example.org",
    )
    assert abs(rows["device"]["last_used_at"] / 1e6 - time.time()) < 120
    assert (rows["user"]["last_used_address"], rows["user"]["last_used_host"]) == ("127.0.0.1", None)


def test_a_revoked_token_that_was_just_read_with_is_refused_within_a_second_in_every_process(
    make_hub: Callable[..., Hub], database_url: str | None
) -> None:
    hubs = [make_hub(database=database_url)]
    hubs.append(make_hub(data=hubs[0].data, database=database_url))
    acme = Acme(hubs[0])
    closure = chain("app")
    acme.publish("1.0.0", closure)
    device = hubs[0].make_token(acme.organization, kind="device")
    place = f"{acme.cache}/{closure[0].path.hash_part}.narinfo"
    for hub in hubs:
        assert [hub.request("GET", place, token=device).status for _ in range(3)] == [200] * 3
    number = id_of(hubs[0], acme.organization, "device")
    hubs[0].as_admin("DELETE", f"/api/v1/organizations/{acme.organization}/tokens/{number}")
    for hub in hubs:
        ends_within_a_second(lambda hub=hub: hub.request("GET", place, token=device).status)  # type: ignore[misc]


def test_a_process_that_lost_sight_of_revocations_asks_the_database(
    with_services: RunWithServices[None],
) -> None:
    async def work(services: Services) -> None:
        token = await make_admin_token(services)
        headers = [(b"authorization", f"Bearer {token}".encode())]

        async def ask(*, remember: bool = True) -> str | None:
            return (await services.authenticator.authenticate(headers, remember=remember)).name

        await services.revocations.refresh()
        assert await ask() == "admin"
        async with services.database.transaction() as connection:
            await connection.run("UPDATE token SET revoked_at = 1")
        assert await ask() == "admin", "it is remembered, since nothing was said of a revocation"
        with pytest.raises(HubError):
            await ask(remember=False)
        object.__setattr__(services.revocations, "_refreshed", time.monotonic() - STALE_SECONDS - 0.1)
        with pytest.raises(HubError):
            await ask()

    with_services(work)
