"""The audit log: whatever changes or is refused is in it, in its organization's chain, and stays there."""

import json
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest

from piste.hub import trail as trails
from piste.hub.access.records import Actor, Kind
from piste.hub.access.token_text import make_token
from piste.hub.audit import reading
from piste.hub.services import Services
from piste.hub.trail import Trail
from piste.nix.store_path import StorePath
from piste.wire.audit import verify_lines
from tests.hub.conftest import RunWithServices
from tests.hub.process import Hub, wait_for
from tests.hub.publishing import Acme, chain
from tests.running.closures import ATTRIBUTE, Member, member

Entry = dict[str, Any]


def lines(hub: Hub, organization: str | None, since: int | None = None) -> list[str]:
    place = "/api/v1/audit" if organization is None else f"/api/v1/organizations/{organization}/audit"
    query = f"?since={since}" if since is not None else ""
    answer = hub.request("GET", place + query, token=hub.admin)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/x-ndjson"
    return answer.body.decode().splitlines()


def entries(hub: Hub, organization: str | None) -> list[Entry]:
    return [json.loads(line) for line in lines(hub, organization)]


def refusals(hub: Hub, organization: str | None) -> list[Entry]:
    return [entry for entry in entries(hub, organization) if not entry["allowed"]]


def test_every_change_leaves_an_entry_that_says_who_what_and_from_where(shared_hub: Hub) -> None:
    acme = Acme(shared_hub)
    acme.publish("1.0.0", chain("audited"))
    found = entries(shared_hub, acme.organization)
    assert [entry["number"] for entry in found] == list(range(1, len(found) + 1))
    said = [(entry["action"].split("/")[-1], entry.get("subject", "").split(" ")[0]) for entry in found]
    for wanted in (
        ("organizations", "organization"),
        ("members", "member"),
        ("tokens", "user"),
        ("projects", "project"),
        ("publications", "version"),
        ("declarations", ""),
        ("nars", ""),
        ("source", ""),
        ("finish", "version"),
    ):
        assert wanted in said, wanted
    last = found[-1]
    assert (last["name"], last["kind"], last["project"]) == (f"{acme.organization}-publisher", "user", "web")
    assert (last["permission"], last["address"], last["allowed"]) == ("project:publish", "127.0.0.1", True)
    assert last["organization"] == acme.organization
    assert last["request_id"]


def test_what_only_reads_leaves_nothing(shared_hub: Hub) -> None:
    acme = Acme(shared_hub)
    closure = chain("read")
    acme.publish("1.0.0", closure)
    acme.resolve("1")  # the first one of all makes the hub's key of closure tokens
    before = len(entries(shared_hub, acme.organization))
    assert acme.narinfo(closure[0]).status == 200
    assert acme.resolve("1").status == 200
    assert acme.ask("GET", f"{acme.base}/releases").status == 200
    assert len(entries(shared_hub, acme.organization)) == before


def test_a_change_that_does_not_happen_leaves_no_entry(with_services: RunWithServices[None]) -> None:
    async def fail(services: Services) -> None:
        trails.begin(Trail(action="test", request_id="r", address="-", organization="o"))
        with pytest.raises(RuntimeError):
            async with services.database.transaction() as connection:
                await connection.run("DELETE FROM upstream")
                raise RuntimeError
        assert [line async for line in reading.lines(services.database, "o", None)] == []
        async with services.database.transaction() as connection:
            await connection.run("DELETE FROM upstream")
        assert len([line async for line in reading.lines(services.database, "o", None)]) == 1

    with_services(fail)


def test_many_at_once_form_one_chain(make_hub: Callable[..., Hub], database_url: str | None) -> None:
    first = make_hub(database=database_url)
    second = make_hub(data=first.data, database=database_url)
    first.as_admin("POST", "/api/v1/organizations", json={"name": "busy"})
    admin = first.admin

    def work(hub: Hub, number: int) -> None:
        for step in range(5):
            hub.request(
                "POST",
                "/api/v1/organizations/busy/projects",
                token=admin,
                json={"name": f"p{number}-{step}", "visibility": "private"},
            )
            hub.request("GET", "/api/v1/organizations/busy", token=None)
            hub.request("GET", "/api/v1/organizations/busy", token=make_token(Kind.USER))

    threads = [threading.Thread(target=work, args=(hub, n)) for n, hub in enumerate((first, second) * 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify_lines(lines(first, "busy"))
    made = [entry for entry in entries(first, "busy") if entry.get("subject", "").startswith("project p")]
    assert len(made) == 30
    assert found.count >= 31
    assert json.loads(first.command("check", "--json").stdout)["problems"] == []


@pytest.mark.parametrize(
    ("method", "path", "token", "reason"),
    [
        ("PATCH", "/api/v1/projects/{org}/web", "member", "it would need the permission project:admin"),
        ("PUT", "/cache/{org}/open/nix-cache-info", "stranger", "it would need the permission cache:write"),
        ("GET", "/api/v1/projects/{org}/web", "stranger", "the caller may not see it"),
        ("GET", "/api/v1/organizations/{org}", "stranger", "the caller may not see it"),
        ("PUT", "/cache/{org}/open/nix-cache-info", None, "it would need the permission cache:write"),
    ],
)
def test_a_refused_use_is_in_the_log_of_whom_it_concerns(
    sqlite_hub: Hub, method: str, path: str, token: str | None, reason: str
) -> None:
    acme, other = Acme(sqlite_hub), Acme(sqlite_hub)
    acme.add_project("open", "public")
    credential = {None: None, "member": acme.member, "stranger": other.member}[token]
    for _ in range(3):
        answer = sqlite_hub.request(method, path.format(org=acme.organization), token=credential)
        assert answer.status in (401, 403, 404)
    told = refusals(sqlite_hub, acme.organization)
    found = told[0]
    assert found["reason"] == reason
    assert sum(each.get("count", 1) for each in told) == 3
    assert found["kind"] == ("nobody" if token is None else "user")
    # A stranger's name is nothing that the organization may learn.
    assert ("name" in found) == (token == "member")
    assert refusals(sqlite_hub, other.organization) == []


def test_reading_the_log_leaves_nothing_in_it_also_when_refusals_wait(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    for _ in range(5):
        sqlite_hub.request("DELETE", acme.base, token=acme.member)
        assert not [entry for entry in entries(sqlite_hub, acme.organization) if "/audit" in entry["action"]]


def test_what_nobody_may_see_is_no_refusal(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    sqlite_hub.request("GET", acme.base)
    sqlite_hub.request("GET", f"/api/v1/projects/{acme.organization}/nothing", token=acme.member)
    assert refusals(sqlite_hub, acme.organization) == []


def test_the_use_of_a_revoked_and_of_an_expired_token_is_in_its_organizations_log(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    tokens = f"/api/v1/organizations/{acme.organization}/tokens"
    revoked = sqlite_hub.make_token(acme.organization, kind="device")
    (made,) = [each for each in sqlite_hub.as_admin("GET", tokens) if each["kind"] == "device"]
    sqlite_hub.as_admin("DELETE", f"{tokens}/{made['id']}")
    brief = sqlite_hub.make_token(acme.organization, kind="device", expires_in=1)
    assert sqlite_hub.request("GET", "/api/v1/status", token=revoked).status == 401
    wait_for(lambda: sqlite_hub.request("GET", "/api/v1/status", token=brief).status == 401)
    found = refusals(sqlite_hub, acme.organization)
    assert [each["reason"] for each in found] == ["the token was revoked", "the token has expired"]
    assert found[0]["token"] == made["id"]
    assert found[0]["kind"] == "device"


def test_a_closure_token_outside_of_its_closure_is_in_the_log(shared_hub: Hub) -> None:
    acme = Acme(shared_hub)
    mine, other = chain("mine"), chain("other", content=b"o")
    acme.publish("1.0.0", mine)
    acme.publish("2.0.0", other)
    token = acme.resolve("=1.0.0").json()["token"]
    assert acme.narinfo(other[-1], token=token).status == 404
    assert shared_hub.request("GET", f"/{other[-1].path.hash_part}.narinfo", token=token).status == 404
    assert acme.narinfo(mine[-1], token=token).status == 200
    found = refusals(shared_hub, acme.organization)
    assert [each["reason"] for each in found] == ["it is outside of the token's closure"] * 2
    assert {each["kind"] for each in found} == {"closure"}
    assert all(each["token"] for each in found)  # of the token that it was made for


def test_other_content_under_a_known_path_is_in_the_log(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    known = member("known", acme.organization)
    acme.publish("1.0.0", [known])
    twisted = Member(StorePath(known.path.hash_part, "twisted"), known.nar, ())
    filling = acme.open("1.0.1")
    filling.declare([twisted], {ATTRIBUTE: twisted})
    filling.upload_missing([twisted])
    filling.source()
    assert filling.finish().ref == "path-conflict"
    (found,) = refusals(sqlite_hub, acme.organization)
    assert (found["reason"], found["action"].split("/")[-1]) == ("path-conflict", "finish")


def test_an_unknown_credential_is_in_the_hubs_own_log_and_no_secret_in_any(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    unknown = make_token(Kind.USER)
    sqlite_hub.request("GET", acme.base, token=unknown, headers={"X-Request-Id": "found-by-this"})
    sqlite_hub.request(
        "DELETE", f"/api/v1/organizations/{acme.organization}/tokens/{acme.member}", token=acme.member
    )
    sqlite_hub.request(
        "DELETE", f"/api/v1/organizations/{acme.organization}/members/{acme.member}", token=acme.member
    )
    (found,) = [each for each in refusals(sqlite_hub, None) if each["request_id"] == "found-by-this"]
    assert found["reason"] == "no such credential"
    text = "\n".join([*lines(sqlite_hub, None), *lines(sqlite_hub, acme.organization)])
    for secret in (unknown, acme.member, sqlite_hub.admin):
        assert secret not in text
        assert secret[11:40] not in text


def test_a_members_log_is_for_admins_and_the_hubs_for_whoever_runs_it(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    place = f"/api/v1/organizations/{acme.organization}/audit"
    admin = sqlite_hub.make_member(acme.organization, "ada", "admin")
    owner = sqlite_hub.make_member(acme.organization, "olga", "owner")
    other = Acme(sqlite_hub)
    asked = {"member": acme.member, "admin": admin, "owner": owner, "stranger": other.member, "nobody": None}
    statuses = {name: sqlite_hub.request("GET", place, token=token).status for name, token in asked.items()}
    assert statuses == {"member": 403, "admin": 200, "owner": 200, "stranger": 404, "nobody": 404}
    assert sqlite_hub.request("GET", "/api/v1/audit", token=owner).status == 403
    assert sqlite_hub.request("GET", "/api/v1/audit").status == 401
    assert sqlite_hub.request("GET", place + "?since=x", token=owner).status == 400


def test_an_export_since_a_moment_begins_there_and_has_no_gaps(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    whole = lines(sqlite_hub, acme.organization)
    assert lines(sqlite_hub, acme.organization, 0) == whole
    assert lines(sqlite_hub, acme.organization, 10**17) == []


def test_commands_on_the_hubs_machine_are_in_the_log(sqlite_hub: Hub) -> None:
    acme = Acme(sqlite_hub)
    sqlite_hub.command("keys", "rotate", "--org", acme.organization)
    assert sqlite_hub.admin
    last = entries(sqlite_hub, acme.organization)[-1]
    assert (last["kind"], last["action"]) == ("operator", "piste hub keys rotate")
    assert last["subject"].startswith("signing key ")
    assert any(each["action"] == "piste hub admin-token" for each in entries(sqlite_hub, None))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_entry SET entry = replace(entry, 'true', 'false') WHERE number = 2",
        "DELETE FROM audit_entry WHERE number = 2",
        "DELETE FROM audit_entry WHERE number = (SELECT max(number) FROM audit_entry)",
    ],
)
def test_the_check_finds_what_was_changed_behind_the_hubs_back(
    make_hub: Callable[..., Hub], change: str
) -> None:
    hub = make_hub()
    Acme(hub, organization="tampered")
    assert hub.command("check").returncode == 0
    database = sqlite3.connect(hub.data / "piste.sqlite")
    with database:
        database.execute(change)
    database.close()
    found = hub.command("check", "--json", check=False)
    assert found.returncode == 1
    assert "audit log" in json.loads(found.stdout)["problems"][0]["name"]


def test_a_crash_loses_no_entry_of_a_change_and_at_most_the_last_moment_of_refusals(
    make_hub: Callable[..., Hub],
) -> None:
    hub = make_hub()
    acme = Acme(hub)
    hub.request("GET", acme.base, token=make_token(Kind.USER))
    # An entry of the chain, read by another process, is there without any export asking for it.
    database = sqlite3.connect(hub.data / "piste.sqlite")
    wait_for(
        lambda: database.execute("SELECT count(*) FROM audit_entry WHERE entry LIKE '%no such%'").fetchone()[
            0
        ]
    )
    database.close()
    hub.as_admin("POST", f"/api/v1/organizations/{acme.organization}/projects", json={"name": "last"})
    hub.kill()
    hub.start()
    assert entries(hub, acme.organization)[-1]["subject"] == "project last private"
    verify_lines(lines(hub, acme.organization))


def test_refusals_never_stop_a_request_while_the_database_can_not_be_written(
    with_services: RunWithServices[None],
) -> None:
    async def work(services: Services) -> None:
        trail = Trail(action="GET /x", request_id="r", address="192.0.2.1")
        for number in range(5000):
            trail.request_id = str(number)
            trail.address = f"192.0.2.{number}"
            services.audit.refused(trail, Actor(), "no such credential")
        await services.audit.flush()
        found = [json.loads(line) async for line in reading.lines(services.database, "", None)]
        assert len(found) == 2001
        assert found[-1]["count"] == 3000
        assert await reading.verify(services.database) == (2001, [])

    with_services(work)
