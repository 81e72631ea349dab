"""A full disk is said to be one and leaves nothing half done; once there is room the same succeeds."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from piste.host.place import system_type
from piste.lib.errors import PisteError
from piste.wire.releases import NewProject
from tests.bad_input.conftest import Release
from tests.bad_input.small_disk import remount, resize, skip_without_namespaces, within
from tests.hub.process import Hub
from tests.running.audit import Reader, check_absent, check_release, versions
from tests.running.closures import ATTRIBUTE, Member, make_closure, publish
from tests.running.command import ROOT, Person, check
from tests.running.nix import commit
from tests.running.tenants import Tenant, client_of, make_tenant

OUTPUT = f"packages.{system_type()}.large"
_FLAKE = """{ outputs = { self }: { OUTPUT = derivation {
  name = "large"; system = "SYSTEM";
  builder = "${builtins.path { name = "tools"; path = ./tools; }}/busybox";
  args = [ "dd" "if=/dev/urandom" "bs=1M" "count=4" "of=${placeholder "out"}" ];
}; }; }
"""


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    skip_without_namespaces()


@pytest.fixture
def small_objects(tmp_path: Path) -> Iterator[Hub]:
    """A hub whose objects have a disk of 2 MB."""
    objects = tmp_path / "objects"
    made = Hub(tmp_path / "small", options=("--objects", str(objects)), prefix=within(objects, "2m"))
    try:
        yield made.start()
    finally:
        made.close()


def _attempt(tenant: Tenant, closure: list[Member]) -> PisteError:
    with tenant.client() as client, pytest.raises(PisteError) as caught:
        publish(client, tenant.organization, tenant.project, "1.0.0", closure)
    return caught.value


def test_a_hub_whose_objects_do_not_fit_says_so_shows_nothing_and_goes_on(
    small_objects: Hub, tmp_path: Path
) -> None:
    tenant = make_tenant(small_objects, "acme", "web")
    closure = make_closure(7, paths=6, size=1_500_000)
    refused = _attempt(tenant, closure)
    assert (refused.ref, refused.exit_code) == ("storage-full", 1)
    assert refused.hint
    with Reader(small_objects.url, tenant.token) as reader:
        assert versions(reader, tenant) == []
        check_absent(reader, tenant, "1.0.0", [each.path.base_name for each in closure])
        assert reader.get("/healthz") == b"ok\n"
    resize(small_objects.pid, tmp_path / "objects", "64m")
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "1.0.0", closure)
    with Reader(small_objects.url, tenant.token) as reader:
        check_release(reader, tenant, tenant.key, "1.0.0")


def test_the_publisher_is_told_that_the_hub_is_full(small_objects: Hub, tmp_path: Path) -> None:
    tenant = make_tenant(small_objects, "acme", "web")
    person = Person(tmp_path / "publisher", hub=small_objects.url, token=tenant.token)
    folder = person.folder / "flake"
    (folder / "tools").mkdir(parents=True)
    (folder / "tools/busybox").write_bytes((ROOT / ".cache/nix/bin/busybox").read_bytes())
    (folder / "tools/busybox").chmod(0o755)
    (folder / "flake.nix").write_text(_FLAKE.replace("OUTPUT", OUTPUT).replace("SYSTEM", system_type()))
    check(person.run("git", "init", "-q", "-b", "main", cwd=folder))
    commit(person, folder, "Something large")
    argv = ["publish", str(folder), "--name", tenant.name, "--version", "1.0.0", "--json"]
    done = person.piste(*argv)
    assert (done.code, done.problem["ref"]) == (1, "storage-full"), done.stderr
    assert "hub" in done.problem["message"].lower()
    with Reader(small_objects.url, tenant.token) as reader:
        assert versions(reader, tenant) == []
    resize(small_objects.pid, tmp_path / "objects", "64m")
    assert person.succeed(*argv).json["outputs"]


def test_a_hub_whose_database_is_full_answers_goes_on_and_recovers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    hub = Hub(data).start()
    tenant = make_tenant(hub, "acme", "web")
    published = make_closure(1, paths=2, size=20_000)
    with tenant.client() as client:
        publish(client, tenant.organization, tenant.project, "0.1.0", published)
    assert hub.stop() == 0
    hub.prefix = within(data, "3m", keeping=True)
    hub.options = ("--objects", str(tmp_path / "objects"))
    (data / "objects").rename(tmp_path / "objects")
    try:
        hub.start()
        before = ["0.1.0", *_fill_database(tenant)]
        with Reader(hub.url, tenant.token) as reader:
            assert reader.get("/healthz") == b"ok\n"
            assert versions(reader, tenant) == before[::-1]
            for version in before:
                check_release(reader, tenant, tenant.key, version, contents=False)
        resize(hub.pid, data, "64m")
        closure = make_closure(2, paths=2, size=20_000)
        with tenant.client() as client:
            publish(client, tenant.organization, tenant.project, "9.0.0", closure)
        with Reader(hub.url, tenant.token) as reader:
            check_release(reader, tenant, tenant.key, "9.0.0")
    finally:
        hub.close()


def _fill_database(tenant: Tenant) -> list[str]:
    """Publish until there is no room for more; the versions that were published."""
    done: list[str] = []
    while len(done) < 100:
        version = f"1.{len(done)}.0"
        members = make_closure(len(done) + 100, paths=400, size=8)
        try:
            with tenant.client() as client:
                publish(client, tenant.organization, tenant.project, version, members)
        except PisteError as error:
            assert error.ref == "storage-full", error
            return done
        done.append(version)
    raise AssertionError("the database never became full")


@pytest.fixture(scope="module")
def large(release: Release) -> list[Member]:
    """A release with a closure of 60 paths and 8 MB."""
    tenant = release.tenant
    closure = [*make_closure(11, paths=59, size=8), *make_closure(12, paths=4, size=4_000_000)]
    tops = {ATTRIBUTE: closure[-1], OUTPUT: closure[58]}
    with tenant.client() as client:
        client.create_project(tenant.organization, NewProject("large"))
        publish(client, tenant.organization, "large", "1.0.0", closure, outputs=tops)
    return closure


@pytest.mark.parametrize(
    ("disk", "attribute"),
    [
        ("1m", ATTRIBUTE),  # has not even room for Nix's database
        ("5m", ATTRIBUTE),  # for the database, and not for the closure
        ("64m,nr_inodes=60", OUTPUT),  # for some of the paths; nothing tells beforehand
    ],
)
def test_a_hosts_store_without_room_gets_no_root_and_no_half_path(
    release: Release, large: list[Member], tmp_path: Path, disk: str, attribute: str
) -> None:
    tenant = release.tenant
    host = Person(tmp_path / "host", hub=tenant.hub.url, token=tenant.token)
    host.succeed("login", "--trusted-key", str(tenant.key))
    reference, link = f"acme/large/1#{attribute}", str(host.folder / "link")
    inside = f"""
        piste fetch '{reference}' {link} --json; echo $? > {host.folder}/code
        ls {host.root}/nix/store | grep -v '[.]lock$' | wc -l > {host.folder}/there
        {" ".join(remount("64m,nr_inodes=10k"))} {host.root}
        nix-store --verify --check-contents || echo bad > {host.folder}/bad
        piste fetch '{reference}' {link} --json > {host.folder}/again
    """
    done = host.run(*within(host.root, disk), "sh", "-c", inside)
    assert (host.folder / "code").read_text().strip() == "1", done.stderr
    problem = json.loads(next(line for line in done.stderr.splitlines() if line.startswith("{")))["error"]
    assert problem["ref"] == "disk-full"
    assert "nix-collect-garbage" in problem["hint"]
    assert not (host.folder / "bad").exists(), done.stderr
    fetched = json.loads((host.folder / "again").read_text())["paths_fetched"]
    there = int((host.folder / "there").read_text())
    assert there + fetched == (4 if attribute == ATTRIBUTE else 59), done.stderr


def test_a_login_that_can_not_be_written_leaves_the_one_before(release: Release, tmp_path: Path) -> None:
    tenant = release.tenant
    host = Person(tmp_path / "host", hub=tenant.hub.url, token=tenant.token)
    config = Path(host.environment["PISTE_CONFIG_HOME"])
    host.succeed("login")
    before = (config / "login.json").read_bytes()
    inside = (
        f"dd if=/dev/zero of={config}/filler bs=4k 2> /dev/null;"
        f" piste login --json; echo $? > {host.folder}/code; cat {config}/login.json > {host.folder}/after"
    )
    done = host.run(*within(config, "64k", keeping=True), "sh", "-c", inside)
    assert (host.folder / "code").read_text().strip() == "1", done.stderr
    assert '"disk-full"' in done.stderr
    assert (host.folder / "after").read_bytes() == before
    with client_of(tenant.hub, tenant.token) as client:
        assert client.status().logged_in


def test_tokens_that_can_not_be_written_are_no_tokens_any_more(release: Release, tmp_path: Path) -> None:
    tenant = release.tenant
    admin = Person(tmp_path / "admin", hub=tenant.hub.url, token=tenant.hub.admin)
    lines = "".join(f"host-{number},{ATTRIBUTE}\n" for number in range(40))
    (admin.folder / "hosts.csv").write_text(f"description,attribute\n{lines}")
    folder = admin.folder / "tokens"
    inside = (
        f"piste token create --kind resolve-only --org {tenant.organization} --project {tenant.name}"
        f" --requirement 1 --from {admin.folder}/hosts.csv --output-dir {folder};"
        f" echo $? > {admin.folder}/code; ls {folder} > {admin.folder}/left"
    )
    done = admin.run(*within(folder, "1m,nr_inodes=20"), "sh", "-c", inside)
    assert (admin.folder / "code").read_text().strip() == "1", done.stderr
    assert "They were revoked again" in done.stderr and "piste_resolve_" not in done.stdout
    assert (admin.folder / "left").read_text() == ""
    rows = tenant.hub.as_admin("GET", f"/api/v1/organizations/{tenant.organization}/tokens")
    made = [row for row in rows if row["description"].startswith("host-")]
    assert len(made) == 40 and all(row["revoked_at"] for row in made)
