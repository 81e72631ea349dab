"""org, project, list, search, yank: what a hub holds, from the command line."""

import pytest

from tests.running.closures import ATTRIBUTE, make_closure, publish
from tests.running.command import Person
from tests.running.tenants import Tenant, make_tenant


@pytest.fixture
def member(person: Person, tenant: Tenant) -> Person:
    return Person(person.folder, tenant.hub.url, tenant.token)


@pytest.fixture
def admin(person: Person, tenant: Tenant) -> Person:
    return Person(person.folder, tenant.hub.url, tenant.hub.admin)


@pytest.fixture
def released(tenant: Tenant) -> Tenant:
    with tenant.client() as client:
        for number, version in enumerate(("1.0.0", "1.1.0", "2.0.0")):
            closure = make_closure(number, paths=1, size=100)
            publish(client, tenant.organization, tenant.project, version, closure)
    return tenant


def test_releases_are_listed_highest_first_and_narrowed_by_requirements(
    member: Person, released: Tenant
) -> None:
    rows = member.succeed("list", "releases", released.name, "--json").json
    assert [row["version"] for row in rows] == ["2.0.0", "1.1.0", "1.0.0"]
    assert rows[0]["published_at"].endswith("Z")
    rows = member.succeed("list", "versions", released.name, "^1", "--json").json
    assert [row["version"] for row in rows] == ["1.1.0", "1.0.0"]
    outputs = member.succeed("list", "outputs", f"{released.name}/=1.0.0", "--json").json
    assert [(output["attribute"], output["available"]) for output in outputs] == [(ATTRIBUTE, True)]
    tried = member.succeed("requirement", "<2", "--project", released.name, "--json").json
    assert [row["matches"] for row in tried] == [False, True, True]


def test_where_the_output_is_no_terminal_tables_are_plain_rows(member: Person, released: Tenant) -> None:
    lines = member.succeed("list", "releases", released.name).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["2.0.0", "1.1.0", "1.0.0"]


def test_a_yanked_release_is_chosen_by_no_range_and_says_why(
    admin: Person, member: Person, released: Tenant
) -> None:
    yanked = admin.succeed("yank", f"{released.name}/=2.0.0", "--reason", "does not boot", "--json").json
    assert (yanked["version"], yanked["yank_reason"]) == ("2.0.0", "does not boot")
    found = member.succeed("resolve", f"{released.name}#{ATTRIBUTE}", "--json").json
    assert found["version"] == "1.1.0"
    refused = member.piste("resolve", f"{released.name}/=2.0.0#{ATTRIBUTE}")
    assert refused.code == 1
    assert "does not boot" in refused.stderr
    admin.succeed("unyank", f"{released.name}/2.0.0")
    assert member.succeed("resolve", f"{released.name}#{ATTRIBUTE}", "--json").json["version"] == "2.0.0"


def test_projects_are_made_shown_changed_and_deleted(admin: Person, tenant: Tenant) -> None:
    name = f"{tenant.organization}/Tools"
    assert admin.succeed("project", "create", name, "--json").json["visibility"] == "private"
    assert admin.succeed("project", "visibility", name, "public", "--json").json["visibility"] == "public"
    assert admin.succeed("project", "show", name.lower(), "--json").json["name"] == "Tools"
    listed = admin.succeed("project", "list", tenant.organization, "--json").json
    assert sorted(project["name"] for project in listed) == ["Tools", "web"]
    assert admin.piste("project", "delete", name).code == 2
    admin.succeed("project", "delete", name, "--yes")
    assert admin.piste("project", "show", name).code == 1


def test_one_release_is_deleted_for_good(admin: Person, member: Person, released: Tenant) -> None:
    name = f"{released.name}/=2.0.0"
    assert admin.piste("project", "delete", name).code == 2
    assert admin.piste("project", "delete", f"{released.name}/2", "--yes").code == 2
    assert member.piste("project", "delete", name, "--yes").code == 6
    admin.succeed("project", "delete", name, "--yes")
    rows = member.succeed("list", "releases", released.name, "--json").json
    assert [row["version"] for row in rows] == ["1.1.0", "1.0.0"]
    assert admin.piste("project", "delete", name, "--yes").code == 1


def test_a_search_finds_what_the_caller_may_see(member: Person, tenant: Tenant) -> None:
    other = make_tenant(tenant.hub, f"{tenant.organization}-other", "web-private")
    public = make_tenant(tenant.hub, f"{tenant.organization}-open", "web-public", "public")
    found = member.succeed("search", "web", "--json").json
    names = {f"{project['organization']}/{project['name']}" for project in found}
    assert {tenant.name, public.name} <= names
    assert other.name not in names


def test_what_is_not_found_is_named_as_it_was_asked_for(member: Person, tenant: Tenant) -> None:
    done = member.piste("project", "show", f"{tenant.organization}/wbe", "--json")
    assert (done.code, done.problem["ref"]) == (1, "not-found")
    assert done.problem["context"]["asked for"].endswith(f"/projects/{tenant.organization}/wbe")


def test_organizations_have_members_and_upstreams(admin: Person, tenant: Tenant) -> None:
    organization = tenant.organization
    assert organization in {row["name"] for row in admin.succeed("org", "list", "--json").json}
    assert admin.succeed("org", "show", organization, "--json").json["public_keys"] == [str(tenant.key)]
    admin.succeed("org", "add-member", organization, "ada", "--role", "admin")
    rows = admin.succeed("org", "members", organization, "--json").json
    assert ("ada", "admin") in {(row["person"], row["role"]) for row in rows}
    admin.succeed("org", "remove-member", organization, "ada")
    rows = admin.succeed("org", "members", organization, "--json").json
    assert "ada" not in {row["person"] for row in rows}
    key = "cache-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    admin.succeed("org", "upstream", "add", organization, "https://cache.example.org", key)
    rows = admin.succeed("org", "upstream", "list", organization, "--json").json
    assert [(row["url"], row["public_keys"]) for row in rows] == [("https://cache.example.org", [key])]
    admin.succeed("org", "upstream", "remove", organization, "https://cache.example.org")
    assert admin.succeed("org", "upstream", "list", organization, "--json").json == []


def test_an_upstream_without_a_key_or_with_a_wrong_one_is_refused(admin: Person, tenant: Tenant) -> None:
    place = ("org", "upstream", "add", tenant.organization, "https://cache.example.org")
    assert admin.piste(*place).code == 2
    assert admin.piste(*place, "no-key").code == 2


def test_the_cache_tells_what_it_knows_of_a_path(member: Person, released: Tenant) -> None:
    path = member.succeed("resolve", f"{released.name}#{ATTRIBUTE}").stdout.strip()
    known = member.succeed("cache", "info", path, "--name", released.name, "--json").json
    assert known["store_path"] == path
    assert known["signatures"][0].startswith(f"{released.organization}-1:")
    absent = member.piste("cache", "info", "/nix/store/" + "0" * 32 + "-x", "--name", released.name, "--json")
    assert (absent.code, absent.problem["ref"]) == (1, "not-found")
