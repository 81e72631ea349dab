"""`piste token create --from`: a token for each line of a table, and what is wrong with a table."""

import json
import stat
from pathlib import Path

import pytest

from tests.running.closures import ATTRIBUTE, make_closure, publish
from tests.running.command import Person
from tests.running.tenants import Tenant

HEADER = "description,attribute\n"


@pytest.fixture
def released(tenant: Tenant) -> Tenant:
    with tenant.client() as client:
        for number, version in enumerate(("1.0.0", "2.0.0")):
            closure = make_closure(number, paths=1, size=100)
            publish(client, tenant.organization, tenant.project, version, closure)
    return tenant


@pytest.fixture
def admin(person: Person, released: Tenant) -> Person:
    return Person(person.folder, released.hub.url, released.hub.admin)


def create(tenant: Tenant, *more: str) -> list[str]:
    bound = ["--kind", "resolve-only", "--org", tenant.organization]
    return ["token", "create", *bound, "--project", tenant.name, "--requirement", "1", *more]


def table(folder: Path, text: str) -> str:
    file = folder / "hosts.csv"
    file.write_text(text)
    return str(file)


def descriptions(admin: Person, tenant: Tenant) -> list[str]:
    rows = admin.succeed("token", "list", "--org", tenant.organization, "--json").json
    return sorted(row["description"] for row in rows if row["kind"] == "resolve-only")


def test_each_line_becomes_a_token_in_a_file_that_only_its_owner_reads(
    admin: Person, released: Tenant, tmp_path: Path
) -> None:
    hosts = table(
        tmp_path,
        "description,attribute,requirement,expires\n"
        f"web-1,{ATTRIBUTE},,\n"
        f'web-2,"packages.""x86_64-linux"".app",2,30d\n\n',
    )
    folder = tmp_path / "tokens"
    done = admin.succeed(*create(released, "--from", hosts, "--output-dir", str(folder)))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["description"], row["requirement"], row["allowed_versions"]) for row in rows] == [
        ("web-1", "1", ["1.0.0"]),
        ("web-2", "2", ["2.0.0"]),
    ]
    assert "piste_resolve_" not in done.stdout + done.stderr
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert [(file.name, stat.S_IMODE(file.stat().st_mode)) for file in files] == [
        ("web-1", 0o600),
        ("web-2", 0o600),
    ]
    host = Person(tmp_path / "host", released.hub.url, files[0].read_text().strip())
    assert host.succeed("resolve", f"{released.name}/1#{ATTRIBUTE}").stdout.startswith("/nix/store/")


def test_without_a_folder_the_tokens_are_lines_of_json(
    admin: Person, released: Tenant, tmp_path: Path
) -> None:
    hosts = table(tmp_path, f"description\tattribute\na\t{ATTRIBUTE}\nb\t{ATTRIBUTE}\n")
    done = admin.succeed(*create(released, "--from", hosts))
    tokens = [json.loads(line)["token"] for line in done.stdout.splitlines()]
    assert len(set(tokens)) == 2 and all(token.startswith("piste_resolve_") for token in tokens)


def test_a_dry_run_shows_the_versions_and_makes_nothing(
    admin: Person, released: Tenant, tmp_path: Path
) -> None:
    hosts = table(tmp_path, f"description,attribute,requirement\na,{ATTRIBUTE},\nb,{ATTRIBUTE},7\n")
    folder = tmp_path / "tokens"
    planned = [*create(released, "--from", hosts, "--output-dir", str(folder)), "--dry-run"]
    done = admin.succeed(*planned, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["allowed_versions"] for row in rows] == [["1.0.0"], []]
    assert not {"id", "token"} & rows[0].keys()
    assert "b: Published versions that 7 allows: none yet." in done.stderr
    assert "1.0.0" in admin.succeed(*planned).stdout
    assert descriptions(admin, released) == [] and list(folder.iterdir()) == []


def test_a_single_one_is_shown_before_it_is_made(admin: Person, released: Tenant) -> None:
    asked = create(released, "--attribute", ATTRIBUTE, "--description", "web-1")
    planned = admin.succeed(*asked, "--dry-run")
    assert "Published versions that 1 allows: 1.0.0." in planned.stderr
    assert descriptions(admin, released) == []
    made = admin.succeed(*asked)
    assert "Published versions that 1 allows: 1.0.0." in made.stderr
    assert made.stdout.startswith("piste_resolve_") and made.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names a column twice, or none"),
        ("description,attribute\n", "has no tokens"),
        ("host,attribute\na,b\n", "has a column 'host'"),
        ("description,description\na,b\n", "names a column twice"),
        (HEADER + f"a,{ATTRIBUTE},x\n", "line 2: it has 3 cells instead of 2"),
        (HEADER + f"a,{ATTRIBUTE}\n,{ATTRIBUTE}\n", "line 3: it says no description"),
        (HEADER + f"a,{ATTRIBUTE}\na,{ATTRIBUTE}\n", "line 3: line 2 has the same description"),
        (HEADER + "a,b..c\n", "line 2:"),
        (HEADER + f'a,"{ATTRIBUTE}\n', "line 2:"),
        ("description,attribute,expires\n" + f"a,{ATTRIBUTE},soon\n", "line 2: 'soon' is not a length"),
        ("description,attribute,project\n" + f"a,{ATTRIBUTE},other/web\n", "line 2: other/web does not"),
        (HEADER + f"../a,{ATTRIBUTE}\n", "is no name for a file"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(
    admin: Person, released: Tenant, tmp_path: Path, text: str, said: str
) -> None:
    folder = tmp_path / "tokens"
    hosts = table(tmp_path, text)
    refused = admin.piste(*create(released, "--from", hosts, "--output-dir", str(folder)))
    assert refused.code == 2 and said in refused.stderr, refused.stderr
    assert descriptions(admin, released) == [] and not folder.exists()


def test_what_the_hub_refuses_is_said_with_the_line_of_the_table(
    admin: Person, released: Tenant, tmp_path: Path
) -> None:
    hosts = table(tmp_path, f"description,attribute,requirement\n\na,{ATTRIBUTE},1\nb,{ATTRIBUTE},one\n")
    refused = admin.piste(*create(released, "--from", hosts))
    assert refused.code != 0 and "line: 4" in refused.stderr and hosts in refused.stderr
    assert descriptions(admin, released) == []


def test_no_file_is_written_over_and_nothing_is_made(admin: Person, released: Tenant, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "b").write_text("precious")
    hosts = table(tmp_path, HEADER + f"a,{ATTRIBUTE}\nb,{ATTRIBUTE}\n")
    refused = admin.piste(*create(released, "--from", hosts, "--output-dir", str(folder)))
    assert refused.code == 2 and "is there already" in refused.stderr
    assert (folder / "b").read_text() == "precious" and len(list(folder.iterdir())) == 1
    assert descriptions(admin, released) == []


def test_options_that_do_not_belong_together_are_named(
    admin: Person, released: Tenant, tmp_path: Path
) -> None:
    org = ["--org", released.organization]
    for asked in (
        ["--kind", "device", "--description", "x", "--from", "hosts.csv"],
        ["--kind", "device", "--description", "x", "--dry-run"],
        ["--kind", "device"],
        ["--kind", "resolve-only", "--description", "x", "--output-dir", "x"],
        ["--kind", "resolve-only", "--from", str(tmp_path / "nothing")],
    ):
        assert admin.piste("token", "create", *org, *asked).code == 2, asked
