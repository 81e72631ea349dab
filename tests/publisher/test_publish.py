"""`piste publish`, with real Nix, to a real hub."""

import json
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest

from piste.host.place import system_type
from piste.wire.organizations import NewUpstream
from tests.running.closures import ATTRIBUTE
from tests.running.command import Finished, Person, check
from tests.running.nix import build, commit, write_flake
from tests.running.tenants import Tenant, client_of, make_tenant

SYSTEM = system_type()
WEB = """
  common = run "common" "echo shared > $out";
  web = text: run "web" "echo ${text} ${common} > $out";
"""
OUTPUTS = f"""
  nixosConfigurations.web.config.system.build.toplevel = web "one";
  packages.{SYSTEM}."with.dot" = run "dotted" "echo dotted > $out";
  packages.riscv64-none.default = derivation {{
    name = "far"; system = "riscv64-none"; builder = "/bin/sh"; args = [ ];
  }};
"""


@pytest.fixture
def flake(publisher: Person, tmp_path: Path) -> Path:
    return write_flake(publisher, tmp_path / "flake", WEB, OUTPUTS)


def publish(person: Person, tenant: Tenant, folder: Path, *options: str) -> Finished:
    return person.piste("publish", str(folder), "--name", tenant.name, "--json", *options)


def releases(tenant: Tenant) -> list[str]:
    with tenant.client() as client:
        return [release.version for release in client.releases(tenant.organization, tenant.project)]


def change(person: Person, folder: Path, old: str, new: str) -> None:
    text = (folder / "flake.nix").read_text()
    assert old in text
    (folder / "flake.nix").write_text(text.replace(old, new))
    commit(person, folder, "Change")


def test_a_flake_becomes_a_release_with_all_that_it_has(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    result = json.loads(check(publish(publisher, tenant, flake, "--version", "v1.0.0")))
    assert result["flake_name"] == tenant.name
    assert result["flake_version"] == "1.0.0"
    assert set(result["outputs"]) == {ATTRIBUTE, f'packages.{SYSTEM}."with.dot"'}
    assert (result["paths_uploaded"], result["paths_present"]) == (3, 0)
    assert result["bytes_uploaded"] > 0
    assert {"evaluate", "build", "closure", "upload", "finish"} <= set(result["seconds"])
    with tenant.client() as client:
        details = client.release(tenant.organization, "web", "=1.0.0")
        states = {output.attribute: output.available for output in details.outputs}
        assert states == {**dict.fromkeys(result["outputs"], True), "packages.riscv64-none.default": False}
        found = client.resolve(tenant.organization, "web", "1", ATTRIBUTE)
        assert found.store_path == result["outputs"][ATTRIBUTE]
        path = ("api", "v1", "projects", tenant.organization, "web", "releases", "=1.0.0", "source")
        with tarfile.open(fileobj=BytesIO(client.request("GET", path))) as archive:
            assert archive.getnames() == ["source/flake.nix"]


def test_publishing_again_uploads_nothing_and_other_content_is_refused(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    first = json.loads(check(publish(publisher, tenant, flake, "--version", "1.0.0")))
    second = json.loads(check(publish(publisher, tenant, flake, "--version", "1.0.0")))
    assert (second["release_id"], second["paths_uploaded"]) == (first["release_id"], 0)
    assert (first["created"], second["created"]) == (True, False)
    change(publisher, flake, '"one"', '"two"')
    refused = publish(publisher, tenant, flake, "--version", "1.0.0")
    assert (refused.code, refused.problem["ref"]) == (1, "content-differs")
    assert releases(tenant) == ["1.0.0"]
    third = json.loads(check(publish(publisher, tenant, flake, "--version", "1.1.0")))
    assert (third["paths_uploaded"], third["paths_present"]) == (1, 2)


def test_a_project_is_made_where_there_is_none(publisher: Person, tenant: Tenant, flake: Path) -> None:
    name = f"{tenant.organization}/new"
    options = ("--visibility", "public", "--label", "web", "--license", "Apache-2.0", "--rolling")
    check(publisher.piste("publish", str(flake), "--name", name, *options))
    with client_of(tenant.hub, None) as client:
        assert client.project(tenant.organization, "new").visibility == "public"
        details = client.release(tenant.organization, "new", "*")
    assert details.release.rolling
    assert details.release.version.startswith("0.1.1+rev-")
    assert (details.labels, details.license) == (["web"], "Apache-2.0")


def test_a_publication_that_fails_leaves_no_new_project(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    change(publisher, flake, "echo dotted", "exit 1; echo dotted")
    name = f"{tenant.organization}/new"
    assert publisher.piste("publish", str(flake), "--name", name, "--version", "1.0.0").code == 1
    with tenant.client() as client:
        projects = [each.name for each in client.projects(organization=tenant.organization)]
    assert projects == [tenant.project]


def test_a_flake_in_a_subfolder_is_published_by_itself(
    publisher: Person, tenant: Tenant, tmp_path: Path
) -> None:
    top = write_flake(publisher, tmp_path / "top", WEB, OUTPUTS)
    folder = top / "nix" / "web"
    folder.mkdir(parents=True)
    (top / "flake.nix").rename(folder / "flake.nix")
    commit(publisher, top, "In a subfolder")
    check(publish(publisher, tenant, folder, "--version", "1.0.0"))
    with tenant.client() as client:
        assert client.release(tenant.organization, tenant.project, "1").subdirectory == "nix/web"


def test_only_what_is_asked_for_is_built(publisher: Person, tenant: Tenant, flake: Path) -> None:
    change(publisher, flake, '"echo dotted', '"exit 1; echo dotted')
    result = json.loads(
        check(publish(publisher, tenant, flake, "--version", "1.0.0", "--attribute", ATTRIBUTE))
    )
    assert list(result["outputs"]) == [ATTRIBUTE]


def test_an_output_that_is_not_there_names_the_near_ones(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    done = publish(publisher, tenant, flake, "--version", "1.0.0", "--attribute", "nixosConfigurations.wbe")
    assert (done.code, done.problem["ref"]) == (2, "attribute-not-found")
    assert ATTRIBUTE in done.problem["hint"]
    assert releases(tenant) == []


def test_one_build_that_fails_leaves_nothing_visible(publisher: Person, tenant: Tenant, flake: Path) -> None:
    change(publisher, flake, '"echo dotted', '"echo a message of the builder; exit 1; echo dotted')
    done = publish(publisher, tenant, flake, "--version", "1.0.0")
    assert (done.code, done.problem["ref"]) == (1, "build-failed")
    assert '"with.dot"' in done.problem["message"]
    assert "a message of the builder" in done.stderr
    assert releases(tenant) == []


def test_a_broken_output_stops_a_release_unless_it_is_left_out(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    change(publisher, flake, 'run "dotted" "echo dotted > $out"', 'throw "no good"')
    done = publish(publisher, tenant, flake, "--version", "1.0.0")
    assert (done.code, done.problem["ref"]) == (1, "evaluation-failed")
    assert "no good" in done.problem["message"]
    left_out = publish(publisher, tenant, flake, "--version", "1.0.0", "--skip-broken")
    assert list(json.loads(check(left_out))["outputs"]) == [ATTRIBUTE]
    assert "no good" in left_out.stderr


def test_without_building_only_what_is_there_is_complete(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    change(publisher, flake, '"one"', '"never built"')
    done = publish(publisher, tenant, flake, "--version", "1.0.0", "--no-build", "--attribute", ATTRIBUTE)
    assert (done.code, done.problem["ref"]) == (1, "output-not-built")
    build(publisher, "", 'run "dotted" "echo dotted > $out"')
    result = json.loads(check(publish(publisher, tenant, flake, "--version", "1.0.0", "--no-build")))
    assert list(result["outputs"]) == [f'packages.{SYSTEM}."with.dot"']


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ('run "leak" "echo ${self} > $out"', "the flake's own source"),
        ('run "leak" "echo ${./.} > $out"', "the flake's own source"),
        ('run "leak" "echo ${(run "inner" "echo > $out").drvPath} > $out"', "a derivation"),
    ],
)
def test_source_in_a_closure_is_refused_with_the_way_it_got_in(
    publisher: Person, tenant: Tenant, tmp_path: Path, output: str, what: str
) -> None:
    between = f'middle = {output}; outer = run "outer" "echo ${{middle}} > $out";'
    flake = write_flake(publisher, tmp_path / "flake", between, f"packages.{SYSTEM}.default = outer;")
    done = publish(publisher, tenant, flake, "--version", "1.0.0")
    assert (done.code, done.problem["ref"]) == (1, "source-in-closure")
    assert what in done.problem["message"]
    chain = [line.strip().removeprefix("→ ")[44:] for line in done.problem["message"].splitlines()[1:]]
    assert chain[:2] == ["outer", "leak"]
    assert "--allow-source" in done.problem["hint"]
    assert releases(tenant) == []
    check(publish(publisher, tenant, flake, "--version", "1.0.0", "--allow-source"))


def test_several_machines_fill_one_release(publisher: Person, tenant: Tenant, flake: Path) -> None:
    dotted = f'packages.{SYSTEM}."with.dot"'
    common = ("--version", "1.0.0")
    staged = publish(publisher, tenant, flake, *common, "--stage", "run-1", "--attribute", dotted)
    assert json.loads(check(staged))["release_id"] is None
    assert releases(tenant) == []
    done = publish(publisher, tenant, flake, *common, "--finish", "run-1", "--attribute", ATTRIBUTE)
    assert set(json.loads(check(done))["outputs"]) == {ATTRIBUTE, dotted}
    assert releases(tenant) == ["1.0.0"]


def test_a_lock_file_that_does_not_fit_says_how_to_go_on(
    publisher: Person, tenant: Tenant, tmp_path: Path
) -> None:
    other = write_flake(publisher, tmp_path / "other", "", "")
    folder = write_flake(publisher, tmp_path / "flake", "", "")
    text = f'{{ inputs.other.url = "path:{other}"; outputs = {{ self, other }}: {{ }}; }}'
    (folder / "flake.nix").write_text(text)
    commit(publisher, folder, "An input more")
    done = publish(publisher, tenant, folder, "--version", "1.0.0")
    assert (done.code, done.problem["ref"]) == (1, "lock-stale")
    assert "nix flake lock" in done.problem["hint"]


def test_a_dirty_tree_is_refused_for_a_rolling_version(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    (flake / "flake.nix").write_text((flake / "flake.nix").read_text() + "\n")
    done = publish(publisher, tenant, flake, "--rolling")
    assert (done.code, done.problem["ref"]) == (1, "dirty-tree")
    warned = publish(publisher, tenant, flake, "--version", "1.0.0")
    assert (warned.code, "warning: " in warned.stderr) == (0, True)
    with tenant.client() as client:
        assert client.release(tenant.organization, "web", "1").release.revision is None


def test_without_a_token_nothing_is_evaluated(tenant: Tenant, flake: Path, tmp_path: Path) -> None:
    nobody = Person(tmp_path / "nobody", tenant.hub.url)
    done = publish(nobody, tenant, flake, "--version", "1.0.0")
    assert (done.code, done.problem["ref"]) == (6, "credential-missing")
    assert not nobody.root.exists()


def test_another_organization_looks_as_if_it_were_not_there(
    publisher: Person, tenant: Tenant, flake: Path
) -> None:
    other = make_tenant(tenant.hub, f"{tenant.organization}-other", "web")
    for name in (other.name, f"{tenant.organization}-none/web"):
        done = publisher.piste("publish", str(flake), "--name", name, "--version", "1.0.0", "--json")
        assert (done.code, done.problem["ref"]) == (1, "not-found")


def test_a_hub_that_is_down_is_an_unknown_outcome(tenant: Tenant, flake: Path, machine: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = Person(machine, f"http://127.0.0.1:{taken.getsockname()[1]}", tenant.token)
        done = publish(away, tenant, flake, "--version", "1.0.0")
    assert (done.code, done.problem["ref"]) == (4, "hub-unreachable")


def test_a_full_disk_is_told_and_nothing_becomes_visible(
    publisher: Person, tenant: Tenant, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = "i=0; while [ $i -lt 200000 ]; do echo $i$RANDOM$RANDOM$RANDOM; i=$((i+1)); done > $out"
    flake = write_flake(
        publisher, tmp_path / "flake", "", f"packages.{SYSTEM}.large = run \"large\" ''{script}'';"
    )
    build(publisher, "", f"run \"large\" ''{script}''")
    inside = f'mount -t tmpfs -o size=256k none {small} && TMPDIR={small} exec piste publish {flake} "$@"'
    options = ("--name", tenant.name, "--version", "1.0.0", "--no-build", "--json")
    if publisher.run("unshare", "-rm", "true").code != 0:
        pytest.skip("no namespaces here, so no small disk can be made")
    done = publisher.run("unshare", "-rm", "sh", "-c", inside, "sh", *options)
    assert (done.code, done.problem["ref"]) == (1, "disk-full")
    assert "TMPDIR" in done.problem["hint"]
    assert releases(tenant) == []


def test_a_workflow_gets_the_same_names(
    publisher: Person, tenant: Tenant, flake: Path, tmp_path: Path
) -> None:
    (tmp_path / "output").write_text("before=1\n")
    publisher.extra = {"GITHUB_OUTPUT": str(tmp_path / "output")}
    result = json.loads(check(publish(publisher, tenant, flake, "--version", "1.0.0")))
    lines = (tmp_path / "output").read_text().splitlines()
    assert lines[0] == "before=1"
    told = {lines[at].partition("<<")[0]: lines[at + 1] for at in range(1, len(lines), 3)}
    assert set(told) == set(result)
    assert told["flakeref_exact"] == result["flakeref_exact"]
    assert json.loads(told["outputs"]) == result["outputs"]


def test_what_an_upstream_holds_is_pinned_instead_of_uploaded(
    publisher: Person, tenant: Tenant, flake: Path, tmp_path: Path
) -> None:
    common = build(publisher, WEB, "common")
    key, cache = tmp_path / "key", tmp_path / "cache"
    key.write_text(check(publisher.run("nix", "key", "generate-secret", "--key-name", "upstream-1")))
    public = check(publisher.run("sh", "-c", f"nix key convert-secret-to-public < {key}"))
    check(publisher.run("nix", "store", "sign", "--key-file", str(key), common))
    check(publisher.run("nix", "copy", "--to", f"file://{cache}?secret-key={key}", common))
    with serving(cache) as url:
        with client_of(tenant.hub, tenant.hub.admin) as client:
            client.add_upstream(tenant.organization, NewUpstream(url, [public]))
        result = json.loads(check(publish(publisher, tenant, flake, "--version", "1.0.0")))
    assert (result["paths_uploaded"], result["paths_present"]) == (2, 1)
    with tenant.client() as client:
        text = client.request("GET", ("cache", *tenant.name.split("/"), f"{common[11:43]}.narinfo"))
    assert b"Sig: upstream-1:" in text


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return
