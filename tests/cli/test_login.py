"""`piste login`, `status`, `logout`."""

import json
import stat
from pathlib import Path

import pytest

from tests.running.closures import ATTRIBUTE, make_closure, publish
from tests.running.command import Person
from tests.running.tenants import Tenant


def token_file(person: Person, token: str) -> str:
    path = person.folder / "given"
    path.write_text(token + "\n")
    path.chmod(0o600)
    return str(path)


def log_in(person: Person, tenant: Tenant, token: str, *options: str) -> tuple[int, str, str]:
    place = ("--token-file", token_file(person, token), "--hub", tenant.hub.url)
    done = person.piste("login", "token", *place, *options)
    return done.code, done.stdout, done.stderr


def stored(person: Person) -> Path:
    return person.folder / "config" / "login.json"


def test_a_person_logs_in_and_needs_no_other_setting(person: Person, tenant: Tenant) -> None:
    code, out, _ = log_in(person, tenant, tenant.token)
    lines = out.splitlines()
    assert code == 0
    user = f"publisher-of-{tenant.organization}"
    assert lines[:3] == ["Logged in: true", f"User: {user}", f"Organizations: {tenant.organization}"]
    assert stat.S_IMODE(stored(person).stat().st_mode) == 0o600
    status = person.succeed("status", "--json").json
    assert set(status) == {"logged_in", "user", "organizations", "hub", "kind", "expires_at"}
    assert (status["logged_in"], status["hub"], status["kind"]) == (True, tenant.hub.url, "user")
    projects = person.succeed("list", "flakes", "--json").json
    assert [project["name"] for project in projects] == ["web"]


def test_a_persons_nix_learns_the_hub(person: Person, tenant: Tenant) -> None:
    assert log_in(person, tenant, tenant.token)[0] == 0
    nix = person.folder / "home/.config/nix"
    assert tenant.token in (nix / "netrc").read_text()
    assert stat.S_IMODE((nix / "netrc").stat().st_mode) == 0o600
    assert str(tenant.key) in (nix / "nix.conf").read_text()
    person.succeed("logout")
    assert tenant.token not in (nix / "netrc").read_text()
    assert not stored(person).exists()
    assert person.succeed("status", "--hub", tenant.hub.url, "--json").json["logged_in"] is False


def test_a_conflict_in_the_netrc_stores_nothing(person: Person, tenant: Tenant) -> None:
    nix = person.folder / "home/.config/nix"
    nix.mkdir(parents=True)
    (nix / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    code, _, said = log_in(person, tenant, tenant.token)
    assert code == 1
    assert f"{nix}/netrc, line 1" in said
    assert not stored(person).exists()


def test_a_hosts_token_pins_its_organizations_keys_and_touches_no_settings_of_nix(
    person: Person, tenant: Tenant
) -> None:
    token = tenant.resolve_only("1", ATTRIBUTE)
    code, out, said = log_in(person, tenant, token)
    assert code == 0, said
    assert out.splitlines()[1:3] == [f"User: {tenant.organization}", "Organizations:"]
    kept = json.loads(stored(person).read_text())
    assert kept["trusted_public_keys"] == {tenant.organization: [str(tenant.key)]}
    assert str(tenant.key) in said
    assert not (person.folder / "home/.config/nix").exists()


def test_a_key_that_was_given_beforehand_must_be_the_hubs(person: Person, tenant: Tenant) -> None:
    token = tenant.resolve_only("1", ATTRIBUTE)
    other = f"{tenant.organization}-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    code, _, said = log_in(person, tenant, token, "--trusted-key", other)
    assert code == 1
    assert "(key-differs)" in said
    assert not stored(person).exists()
    assert log_in(person, tenant, token, "--trusted-key", str(tenant.key))[0] == 0


@pytest.mark.parametrize("token", ["piste_user_" + "x" * 49, "nonsense"])
def test_a_wrong_token_is_not_stored(person: Person, tenant: Tenant, token: str) -> None:
    code, _, said = log_in(person, tenant, token)
    assert code == 6
    assert token not in said
    assert not stored(person).exists()


def test_a_token_is_never_an_argument(person: Person, tenant: Tenant) -> None:
    done = person.piste("login", tenant.token, "--hub", tenant.hub.url)
    assert done.code == 2
    assert tenant.token not in done.stderr


def test_without_a_terminal_the_token_must_come_from_somewhere(person: Person, tenant: Tenant) -> None:
    done = person.piste("login", "--hub", tenant.hub.url)
    assert done.code == 2
    assert "--token-file" in done.stderr


def test_a_revoked_token_is_refused_with_6_and_status_says_logged_out(person: Person, tenant: Tenant) -> None:
    assert log_in(person, tenant, tenant.token)[0] == 0
    admin = Person(person.folder.parent / "admin", tenant.hub.url, tenant.hub.admin)
    rows = admin.succeed("token", "list", "--org", tenant.organization, "--json").json
    assert tenant.token not in json.dumps(rows)
    admin.succeed("token", "revoke", rows[0]["id"])
    done = person.piste("status", "--json")
    assert done.code == 6
    assert done.json["logged_in"] is False


def test_a_resolve_only_token_prints_alone_and_resolves(person: Person, tenant: Tenant) -> None:
    with tenant.client() as client:
        closure = make_closure(1, paths=2, size=1000)
        publish(client, tenant.organization, "web", "1.2.0", closure)
    admin = Person(person.folder.parent / "admin", tenant.hub.url, tenant.hub.admin)
    options = ("--kind", "resolve-only", "--org", tenant.organization, "--project", tenant.name)
    bound = ("--requirement", "1", "--attribute", ATTRIBUTE, "--description", "web-1", "--expires", "90d")
    done = admin.succeed("token", "create", *options, *bound)
    token = done.stdout.strip()
    assert done.stdout == token + "\n" and token.startswith("piste_resolve_")
    assert "1.2.0" in done.stderr
    made = admin.succeed("token", "create", *options, *bound, "--json").json
    expected = {"id", "token", "kind", "organization", "project", "requirement", "attribute", "description"}
    assert expected | {"expires_at"} <= set(made)
    host = Person(person.folder.parent / "host", tenant.hub.url, token)
    reference = f"{tenant.name}/1#{ATTRIBUTE}"
    assert host.succeed("resolve", reference).stdout == f"{closure[-1].path}\n"
    found = host.succeed("resolve", reference, "--json").json
    assert list(found) == [
        "reference",
        "organization",
        "project",
        "requirement",
        "version",
        "attribute_path",
        "store_path",
    ]
    assert found["version"] == "1.2.0"
    refused = host.piste("resolve", f"{tenant.name}/*#{ATTRIBUTE}", "--json")
    assert refused.code == 6
