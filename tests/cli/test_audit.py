"""`piste audit`, and the verbs of tokens that came with it."""

import json
import stat
from pathlib import Path

import pytest

from piste.cli.audit import read_since
from piste.lib.errors import UsageError
from tests.running.command import Person
from tests.running.tenants import Tenant


@pytest.fixture
def admin(person: Person, tenant: Tenant) -> Person:
    return Person(person.folder / "admin", tenant.hub.url, tenant.hub.admin)


def test_an_admin_reads_the_log_and_checks_its_chain(admin: Person, tenant: Tenant) -> None:
    assert tenant.hub.request("DELETE", tenant.api, token=tenant.token).status == 403
    done = admin.succeed("audit", "--org", tenant.organization, "--verify")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["number"] for entry in found] == list(range(1, len(found) + 1))
    assert found[0]["subject"] == f"organization {tenant.organization}"
    assert (found[-1]["allowed"], found[-1]["permission"]) == (False, "project:admin")
    assert f"{tenant.organization}: the chain of {len(found)} entries holds" in done.stderr
    assert found[-1]["hash"] in done.stderr
    assert admin.succeed("audit", "--org", tenant.organization, "--since", "2000-01-01").stdout == done.stdout
    assert admin.succeed("audit", "--org", tenant.organization, "--since", "2100-01-01").stdout == ""
    assert admin.succeed("audit", "--since", "1h").stdout


def test_the_log_is_not_for_members(person: Person, tenant: Tenant) -> None:
    member = Person(person.folder, tenant.hub.url, tenant.token)
    for arguments in (("--org", tenant.organization), ()):
        assert member.piste("audit", *arguments).code == (6 if arguments else 1)


@pytest.mark.parametrize("text", ["yesterday", "7", "0d", "2026-13-01", ""])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        read_since(text)


def test_times_are_read_in_utc_unless_they_say_otherwise() -> None:
    assert read_since("2026-01-31") == 1769817600 * 1_000_000
    assert read_since("2026-01-31T00:00Z") == read_since("2026-01-31")
    assert read_since("2026-01-31T01:00+01:00") == read_since("2026-01-31")


def test_a_device_logs_in_like_a_person_and_its_nix_learns_the_hub(
    admin: Person, person: Person, tenant: Tenant
) -> None:
    asked = ("--kind", "device", "--org", tenant.organization, "--description", "laptop-7")
    token = admin.succeed("token", "create", *asked).stdout.strip()
    assert token.startswith("piste_device_")
    file = person.folder / "given"
    file.touch(mode=0o600)
    file.write_text(token)
    done = person.succeed("login", "--hub", tenant.hub.url, "--token-file", str(file))
    assert done.stdout.splitlines()[:3] == [
        "Logged in: true",
        f"User: {tenant.organization}",
        f"Organizations: {tenant.organization}",
    ]
    netrc: Path = person.folder / "home/.config/nix/netrc"
    assert token in netrc.read_text()
    assert stat.S_IMODE(netrc.stat().st_mode) == 0o600
    assert person.succeed("list", "flakes", "--json").json[0]["name"] == "web"
    assert person.piste("org", "members", tenant.organization).code == 6


def test_a_token_is_rotated_and_the_list_says_so(admin: Person, tenant: Tenant) -> None:
    asked = ("--kind", "device", "--org", tenant.organization, "--description", "laptop-7")
    old = admin.succeed("token", "create", *asked, "--json").json
    new = admin.succeed("token", "rotate", old["id"], "--overlap", "7d", "--json").json
    assert new["token"].startswith("piste_device_") and new["token"] != old["token"]
    rows = {
        row["id"]: row for row in admin.succeed("token", "list", "--org", tenant.organization, "--json").json
    }
    assert rows[old["id"]]["replaced_by"] == new["id"]
    assert "(replaced)" in admin.succeed("token", "list", "--org", tenant.organization).stdout
    assert admin.piste("token", "rotate", old["id"]).code == 1
    refused = admin.piste("token", "rotate", old["token"])
    assert refused.code == 2 and old["token"] not in refused.stderr
    assert admin.succeed("token", "rotate", new["id"], "--overlap", "0").stdout.startswith("piste_device_")
    assert tenant.hub.request("GET", "/api/v1/status", token=new["token"]).status == 401
    assert tenant.hub.request("GET", "/api/v1/status", token=old["token"]).status == 200
