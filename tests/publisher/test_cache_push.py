"""`piste cache push`, with real Nix."""

from tests.running.command import Person
from tests.running.nix import build
from tests.running.tenants import Tenant


def test_a_path_is_pushed_with_its_closure(publisher: Person, tenant: Tenant) -> None:
    below = 'below = run "below" "echo pushed > $out";'
    path = build(publisher, below, 'run "above" "echo ${below} > $out"')
    publisher.succeed("cache", "push", path, "--name", tenant.name)
    known = publisher.succeed("cache", "info", path, "--name", tenant.name, "--json").json
    (reference,) = known["references"]
    assert publisher.succeed("cache", "info", reference, "--json").json["store_path"] == reference


def test_without_a_token_nothing_is_pushed(publisher: Person, tenant: Tenant) -> None:
    nobody = Person(publisher.folder, tenant.hub.url)
    path = build(publisher, "", 'run "alone" "echo alone > $out"')
    done = nobody.piste("cache", "push", path, "--name", tenant.name, "--json")
    assert (done.code, done.problem["ref"]) == (6, "credential-missing")
