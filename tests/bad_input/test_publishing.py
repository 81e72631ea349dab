"""What can be wrong with what is published: nothing of it becomes visible, and the words say what to do."""

import http.client
import os
import threading
from pathlib import Path

import pytest

from piste.host.place import system_type
from tests.hub.process import Hub
from tests.running.audit import Reader, check_release, versions
from tests.running.command import Finished, Person
from tests.running.nix import build, closure, write_flake
from tests.running.tenants import Tenant, make_tenant

SYSTEM = system_type()
DEFINITIONS = 'lib = run "lib" "echo the library > $out"; app = run "app" "echo ${lib} > $out";'
OUTPUTS = f"packages.{SYSTEM} = {{ inherit app; }};"


@pytest.fixture
def tenant(hub: Hub, request: pytest.FixtureRequest) -> Tenant:
    """A project of its own for each test."""
    number = len(hub.as_admin("GET", "/api/v1/organizations"))
    return make_tenant(hub, f"acme{number}", "web")


@pytest.fixture
def publisher(tenant: Tenant, tmp_path: Path) -> Person:
    return Person(tmp_path / "publisher", hub=tenant.hub.url, token=tenant.token)


def _publish(person: Person, tenant: Tenant, flake: Path, *options: str) -> Finished:
    options = options or ("--version", "1.0.0")
    return person.piste("publish", str(flake), "--name", tenant.name, "--json", *options)


def _released(tenant: Tenant) -> list[str]:
    with Reader(tenant.hub.url, tenant.token) as reader:
        return versions(reader, tenant)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (f"packages.{SYSTEM} = {{ inherit app; ", "syntax error"),
        (
            f'packages.{SYSTEM} = {{ inherit app; bad = throw "not today"; }};',
            f"packages.{SYSTEM}.bad: not today",
        ),
        ('packages = throw "nothing at all";', "packages: nothing at all"),
        (f"packages.{SYSTEM}.app = let x = x; in x;", "infinite recursion"),
        (f"packages.{SYSTEM}.app = nowhere;", "undefined variable 'nowhere'"),
        (f"packages.{SYSTEM}.app = import ./absent.nix;", "absent.nix"),
        (f"packages.{SYSTEM}.app = builtins.readFile /etc/hostname;", "pure eval"),
        (f"packages.{SYSTEM}.app = import <nixpkgs> {{ }};", "pure eval"),
    ],
)
def test_a_flake_that_does_not_evaluate_is_refused_with_nixs_words(
    publisher: Person, tenant: Tenant, tmp_path: Path, outputs: str, words: str
) -> None:
    done = _publish(publisher, tenant, write_flake(publisher, tmp_path / "flake", DEFINITIONS, outputs))
    assert (done.code, done.problem["ref"]) == (1, "evaluation-failed")
    assert words in done.problem["message"]
    assert done.problem["hint"]
    assert _released(tenant) == []


def test_a_build_that_fails_is_named_with_what_it_said(
    publisher: Person, tenant: Tenant, tmp_path: Path
) -> None:
    outputs = f'packages.{SYSTEM}.app = run "app" "echo there is no compiler; exit 3";'
    done = _publish(publisher, tenant, write_flake(publisher, tmp_path / "flake", DEFINITIONS, outputs))
    assert (done.code, done.problem["ref"]) == (1, "build-failed")
    assert f"packages.{SYSTEM}.app" in done.problem["message"]
    assert "there is no compiler" in done.stderr
    assert _released(tenant) == []


@pytest.mark.parametrize("damage", ["other content", "shorter", "longer", "removed", "a folder instead"])
def test_a_path_that_is_damaged_in_the_publishers_store_is_named_and_not_published(
    publisher: Person, tenant: Tenant, tmp_path: Path, damage: str
) -> None:
    flake = write_flake(publisher, tmp_path / "flake", DEFINITIONS, OUTPUTS)
    library = closure(publisher, build(publisher, DEFINITIONS, "app"))[0]
    file = publisher.root / library.lstrip("/")
    good = file.read_bytes()
    file.chmod(0o644)
    match damage:
        case "other content":
            file.write_bytes(b"x" * len(good))
        case "shorter":
            file.write_bytes(good[:3])
        case "longer":
            file.write_bytes(good * 100)
        case "removed":
            file.unlink()
        case _:
            file.unlink()
            file.mkdir()
    done = _publish(publisher, tenant, flake)
    assert (done.code, done.problem["ref"]) == (1, "path-damaged"), done.stderr
    assert library in done.problem["message"]
    assert "--repair" in done.problem["hint"]
    assert _released(tenant) == []
    if file.is_dir():
        file.rmdir()
    file.write_bytes(good)
    file.chmod(0o444)
    assert _publish(publisher, tenant, flake).code == 0


@pytest.mark.parametrize(
    ("options", "ref"),
    [
        (("--version", "one"), "bad-version"),
        (("--version", "1.0"), "bad-version"),
        (("--version", "../1.0.0"), "bad-version"),
        (("--version", "1.0.0", "--stage", "../../x"), "bad-name"),
        (("--version", "1.0.0", "--stage", ""), "bad-name"),
        (("--version", "1.0.0", "--name", "../web"), "bad-name"),
        (("--version", "1.0.0", "--name", "acme/.."), "bad-name"),
        (("--version", "1.0.0", "--name", "acme/web/x"), "bad-name"),
        (("--version", "1.0.0", "--attribute", "a..b"), "bad-reference"),
        (("--version", "1.0.0", "--rolling"), "usage"),
        (("--version", "1.0.0", "--attribute", f"packages.{SYSTEM}.ap"), "attribute-not-found"),
    ],
)
def test_names_and_versions_that_can_not_be_are_mistakes_of_who_typed_them(
    publisher: Person, tenant: Tenant, tmp_path: Path, options: tuple[str, ...], ref: str
) -> None:
    flake = write_flake(publisher, tmp_path / "flake", DEFINITIONS, OUTPUTS)
    name = () if "--name" in options else ("--name", tenant.name)
    done = publisher.piste("publish", str(flake), "--json", *name, *options)
    assert (done.code, done.problem["ref"]) == (2, ref), done.stderr
    assert _released(tenant) == []


def _at_once(*runs: tuple[Person, Tenant, Path]) -> list[Finished]:
    """Publications of one version that begin together."""
    ready = threading.Barrier(len(runs))
    done: list[Finished] = []

    def run(person: Person, tenant: Tenant, flake: Path) -> None:
        ready.wait()
        done.append(_publish(person, tenant, flake))

    threads = [threading.Thread(target=run, args=each) for each in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(done, key=lambda each: each.code)


def test_of_two_that_publish_one_version_at_once_one_is_told_that_it_differs(
    tenant: Tenant, tmp_path: Path
) -> None:
    runs = []
    for name in ("first", "second"):
        person = Person(tmp_path / name, hub=tenant.hub.url, token=tenant.token)
        outputs = f'packages.{SYSTEM}.app = run "app" "echo {name} > $out";'
        runs.append((person, tenant, write_flake(person, tmp_path / f"flake-{name}", "", outputs)))
    won, lost = _at_once(*runs)
    assert (won.code, lost.code) == (0, 1), (won.stderr, lost.stderr)
    assert lost.problem["ref"] == "content-differs"
    assert "next" in lost.problem["hint"]
    with Reader(tenant.hub.url, tenant.token) as reader:
        assert versions(reader, tenant) == ["1.0.0"]
        names = check_release(reader, tenant, tenant.key, "1.0.0")
    assert [f"/nix/store/{name}" for name in names] == list(won.json["outputs"].values())


def test_two_that_publish_the_same_at_once_both_succeed_with_one_release(
    tenant: Tenant, tmp_path: Path
) -> None:
    author = Person(tmp_path / "author")
    flake = write_flake(author, tmp_path / "flake", DEFINITIONS, OUTPUTS)
    people = [Person(tmp_path / name, hub=tenant.hub.url, token=tenant.token) for name in ("a", "b", "c")]
    done = _at_once(*((person, tenant, flake) for person in people))
    assert [each.code for each in done] == [0, 0, 0], [each.stderr for each in done]
    assert len({each.json["release_id"] for each in done}) == 1
    with Reader(tenant.hub.url, tenant.token) as reader:
        assert versions(reader, tenant) == ["1.0.0"]
        check_release(reader, tenant, tenant.key, "1.0.0")


_CLIMBS = ["..", "%2e%2e", "..%2f..%2f..%2fescaped", "%2fetc%2fpasswd", "..%5cescaped", "a%00b", "...", "~"]


def _everything(folder: Path) -> set[str]:
    """All names below a folder but those of the database's own files."""
    # Not by rglob, which stumbles over links of other tests that lead nowhere that a name could.
    found = {
        str(Path(place, name).relative_to(folder))
        for place, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }
    return {name for name in found if not Path(name).name.startswith("piste.sqlite")}


@pytest.mark.parametrize("climb", _CLIMBS)
def test_a_name_in_an_address_never_leaves_its_folder(tenant: Tenant, climb: str) -> None:
    hub, hashes = tenant.hub, ("0" * 32, "0" * 52)
    before = _everything(hub.data.parent)
    bodies = {"PUT": b"escaped", "GET": None, "HEAD": None, "DELETE": None, "POST": b"{}"}
    project = f"/api/v1/projects/{tenant.name}"
    targets = [
        *(f"{place}/{climb}{tail}" for place in (tenant.cache_path, "") for tail in (".narinfo", ".ls")),
        *(f"{place}/nar/{climb}" for place in (tenant.cache_path, "")),
        *(f"{tenant.cache_path}/nar/{climb}/{name}.nar.zst" for name in hashes),
        f"{tenant.cache_path}/log/{climb}",
        f"{tenant.cache_path}/manifest/{climb}",
        f"{tenant.cache_path}/manifest/{climb}/sources",
        f"/cache/{tenant.organization}/{climb}/{hashes[0]}.narinfo",
        f"/f/{tenant.name}/{climb}.tar.gz",
        f"/f/pinned/{tenant.name}/{climb}/{climb}/source.tar.gz",
        f"{project}/releases/{climb}/source",
        f"{project}/publications/{climb}",
        f"{project}/publications/{climb}/source",
        f"{project}/publications/{climb}/nars",
        f"{project}/resolve/{climb}/{climb}",
    ]
    for target in targets:
        for method, body in bodies.items():
            if method == "PUT" and target.endswith(".ls"):
                continue  # taken from stock clients whatever it says, and thrown away
            answer = hub.request(method, target, token=tenant.token, body=body)
            assert 400 <= answer.status < 500, f"{method} {target}: {answer.status}"
            assert b"root:" not in answer.body
    assert _everything(hub.data.parent) == before


def test_a_target_that_is_no_path_is_an_answer_and_no_crash(tenant: Tenant) -> None:
    for target in ("*", "//", "/..", "/../../etc/passwd", "/%", "/%zz", "/" + "a" * 10_000, "/\x7f"):
        connection = http.client.HTTPConnection(tenant.hub.listen, timeout=10)
        connection.putrequest("GET", "/", skip_host=True)
        connection._buffer = [f"GET {target} HTTP/1.1".encode("latin-1"), b"Host: hub"]  # type: ignore[attr-defined]
        connection.endheaders()
        try:
            assert 400 <= connection.getresponse().status < 500, target
        except http.client.RemoteDisconnected:
            pass  # as good an answer to what is no request
        finally:
            connection.close()
    assert tenant.hub.request("GET", "/healthz").body == b"ok\n"
