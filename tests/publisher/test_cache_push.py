"""`piste cache push`, with real Nix."""

import os
from pathlib import Path

from piste.wire.organizations import NewUpstream
from tests.hub.process import Hub, wait_for
from tests.publisher.test_publish import serving
from tests.running.command import Person, check
from tests.running.nix import build
from tests.running.tenants import Tenant, client_of


def requests(hub: Hub, part: str) -> list[str]:
    """What the hub was asked of pushes; its log comes a moment later."""
    return [line["route"] for line in hub.log_lines("request") if part in line["route"]]


def test_a_path_is_pushed_with_its_closure(publisher: Person, tenant: Tenant) -> None:
    below = 'below = run "below" "echo pushed > $out";'
    path = build(publisher, below, 'run "above" "echo ${below} > $out"')
    done = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert (done["paths"], done["paths_uploaded"], done["paths_present"]) == ([path], 2, 0)
    assert done["cache_url"] == tenant.cache_url
    assert done["bytes_uploaded"] > 0
    known = publisher.succeed("cache", "info", path, "--name", tenant.name, "--json").json
    (reference,) = known["references"]
    assert publisher.succeed("cache", "info", reference, "--json").json["store_path"] == reference


def test_a_second_push_is_one_request(publisher: Person, tenant: Tenant) -> None:
    below = 'below = run "below" "echo twice > $out";'
    path = build(publisher, below, 'run "above" "echo ${below} > $out"')
    publisher.succeed("cache", "push", path, "--name", tenant.name)
    # Somebody else's request comes after it in the log.
    tenant.client().status()
    wait_for(lambda: len(requests(tenant.hub, "/api/v1/status")) > 0)
    before = len(tenant.hub.log_lines("request"))
    done = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert (done["paths_uploaded"], done["paths_present"]) == (0, 2)
    tenant.client().status()
    wait_for(lambda: tenant.hub.log_lines("request")[before:][-1:] != [] and is_status(tenant.hub))
    routes = [line["route"] for line in tenant.hub.log_lines("request")[before:]]
    assert routes == ["/api/v1/projects/{org}/{project}/pushes/missing", "/api/v1/status"]


def is_status(hub: Hub) -> bool:
    return bool(hub.log_lines("request")[-1]["route"] == "/api/v1/status")


def test_links_and_what_lies_within_a_path_name_it(publisher: Person, tenant: Tenant, tmp_path: Path) -> None:
    path = build(publisher, "", 'run "linked" "mkdir $out; echo linked > $out/file"')
    (tmp_path / "result").symlink_to(path)
    (tmp_path / "again").symlink_to("result")
    for name in ("result", "again"):
        done = publisher.succeed(
            "cache", "push", str(tmp_path / name), f"{path}/file", "--name", tenant.name, "--json"
        )
        assert done.json["paths"] == [path]


def test_many_nars_go_in_several_requests_at_once(publisher: Person, tenant: Tenant) -> None:
    parts = "".join(
        f'p{each} = run "part-{each}" "head -c 1500000 /dev/urandom > $out";' for each in range(8)
    )
    names = " ".join(f"${{p{each}}}" for each in range(8))
    path = build(publisher, parts, f'run "all" "echo {names} > $out"')
    done = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert done["paths_uploaded"] == 9
    assert done["bytes_uploaded"] > 12_000_000
    again = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert (again["paths_uploaded"], again["paths_present"]) == (0, 9)


def test_what_an_upstream_holds_is_left_there_where_the_organization_says_so(
    publisher: Person, tenant: Tenant, tmp_path: Path
) -> None:
    below = f'below = run "below" "echo {os.urandom(8).hex()} > $out";'
    common = build(publisher, below, "below")
    path = build(publisher, below, 'run "above" "echo ${below} > $out"')
    key, cache = tmp_path / "key", tmp_path / "cache"
    key.write_text(check(publisher.run("nix", "key", "generate-secret", "--key-name", "upstream-1")))
    public = check(publisher.run("sh", "-c", f"nix key convert-secret-to-public < {key}"))
    check(publisher.run("nix", "store", "sign", "--key-file", str(key), common))
    check(publisher.run("nix", "copy", "--to", f"file://{cache}?secret-key={key}", common))
    with serving(cache) as url:
        with client_of(tenant.hub, tenant.hub.admin) as client:
            client.add_upstream(tenant.organization, NewUpstream(url, [public]))
        pushed = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert (pushed["paths_uploaded"], pushed["paths_pinned"], pushed["paths_present"]) == (1, 1, 0)
    # What is pinned is the project's: it needs neither question nor upload any more.
    again = publisher.succeed("cache", "push", path, "--name", tenant.name, "--json").json
    assert (again["paths_uploaded"], again["paths_pinned"], again["paths_present"]) == (0, 0, 2)


def test_without_a_token_nothing_is_pushed(publisher: Person, tenant: Tenant) -> None:
    nobody = Person(publisher.folder, tenant.hub.url)
    path = build(publisher, "", 'run "alone" "echo alone > $out"')
    done = nobody.piste("cache", "push", path, "--name", tenant.name, "--json")
    assert (done.code, done.problem["ref"]) == (6, "credential-missing")


def test_a_path_that_is_not_in_the_store_is_named(publisher: Person, tenant: Tenant) -> None:
    absent = "/nix/store/" + "0" * 32 + "-absent"
    done = publisher.piste("cache", "push", absent, "--name", tenant.name, "--json")
    assert (done.code, done.problem["ref"]) == (1, "path-not-valid")
    assert os.path.basename(absent) in done.problem["message"]
