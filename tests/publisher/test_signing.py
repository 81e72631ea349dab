"""`piste publish --signing-key-file`: the publisher signs, with real Nix, and a host believes nobody else."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from piste.nix.signature import PublicKey, SecretKey
from piste.wire.organizations import NewUpstream
from piste.wire.statement import decode_statement, encode_statement
from tests.attacks.liar import Liar, running_liar
from tests.publisher.test_publish import OUTPUTS, SYSTEM, WEB, change, publish, releases, serving
from tests.running.closures import ATTRIBUTE
from tests.running.command import Person, check
from tests.running.nix import build, has, write_flake
from tests.running.tenants import Tenant, client_of

pytestmark = pytest.mark.long

DOTTED = f'packages.{SYSTEM}."with.dot"'


@pytest.fixture
def flake(publisher: Person, tmp_path: Path) -> Path:
    return write_flake(publisher, tmp_path / "flake", WEB, OUTPUTS)


@pytest.fixture
def admin(tenant: Tenant, tmp_path: Path) -> Person:
    return Person(tmp_path / "admin", tenant.hub.url, tenant.hub.admin)


@pytest.fixture
def key_file(publisher: Person, tenant: Tenant, tmp_path: Path) -> Path:
    return make_key(publisher, tmp_path, f"{tenant.organization}-publisher-1")


@pytest.fixture
def held(admin: Person, tenant: Tenant, key_file: Path) -> PublicKey:
    """The organization's only key, which the hub does not have."""
    key = public(key_file)
    admin.succeed("org", "keys", "add", tenant.organization, str(key))
    admin.succeed("org", "keys", "revoke", tenant.organization, f"{tenant.organization}-1")
    return key


def make_key(person: Person, folder: Path, name: str) -> Path:
    file = folder / f"{name}.key"
    file.touch(mode=0o600)
    file.write_text(check(person.run("nix", "key", "generate-secret", "--key-name", name)))
    return file


def public(file: Path) -> PublicKey:
    return SecretKey.parse(file.read_text()).public


def make_host(tenant: Tenant, folder: Path, *keys: PublicKey, hub: str | None = None) -> Person:
    host = Person(folder, hub or tenant.hub.url, tenant.token)
    host.succeed("login", *(word for key in keys for word in ("--trusted-key", str(key))))
    return host


def fetch(tenant: Tenant, host: Person, requirement: str = "*", attribute: str = ATTRIBUTE) -> Any:
    return host.piste(
        "fetch", f"{tenant.name}/{requirement}#{attribute}", str(host.folder / "link"), "--json"
    )


def test_a_host_fetches_what_its_publisher_signed_from_a_hub_that_cannot_sign(
    publisher: Person, tenant: Tenant, flake: Path, held: PublicKey, key_file: Path, tmp_path: Path
) -> None:
    result = json.loads(
        check(publish(publisher, tenant, flake, "--version", "1.0.0", "--signing-key-file", str(key_file)))
    )
    assert set(result["outputs"]) == {ATTRIBUTE, DOTTED}
    done = fetch(tenant, make_host(tenant, tmp_path / "host", held))
    assert done.code == 0, done.stderr
    assert done.json["store_path"] == result["outputs"][ATTRIBUTE]
    assert tenant.hub.command("public-key", "--org", tenant.organization).stdout == f"{held}\n"


def test_without_the_key_nothing_is_built_and_a_wrong_one_says_how_to_register_it(
    publisher: Person, tenant: Tenant, flake: Path, held: PublicKey, tmp_path: Path
) -> None:
    refused = publish(publisher, tenant, flake, "--version", "1.0.0")
    assert (refused.code, refused.problem["ref"]) == (2, "signing-key-missing")
    assert held.name in refused.problem["hint"]
    other = make_key(publisher, tmp_path, "other")
    refused = publish(publisher, tenant, flake, "--version", "1.0.0", "--signing-key-file", str(other))
    assert (refused.code, refused.problem["ref"]) == (2, "signing-key-unknown")
    assert f"piste org keys add {tenant.organization} {public(other)}" in refused.problem["hint"]
    assert "Evaluating" not in refused.stderr


def test_a_key_file_that_others_can_read_is_warned_of_and_one_that_is_none_is_refused(
    publisher: Person, tenant: Tenant, flake: Path, held: PublicKey, key_file: Path, tmp_path: Path
) -> None:
    key_file.chmod(0o644)
    options = ("--version", "1.0.0", "--signing-key-file")
    warned = publish(publisher, tenant, flake, *options, str(key_file))
    assert (warned.code, f"chmod 600 {key_file}" in warned.stderr) == (0, True)
    half = tmp_path / "public"
    half.write_text(str(held))
    for file in (half, tmp_path / "none", tmp_path):
        refused = publish(publisher, tenant, flake, *options, str(file))
        assert (refused.code, refused.problem["ref"]) == (2, "bad-signing-key")
    secret = key_file.read_text().strip()
    argument = publisher.piste("org", "keys", "add", tenant.organization, secret, "--json")
    assert (argument.code, argument.problem["ref"]) == (2, "bad-key")
    assert secret.partition(":")[2] not in warned.stderr + refused.stderr + argument.stderr


def test_the_hub_is_told_to_stop_in_words(
    admin: Person, publisher: Person, tenant: Tenant, key_file: Path
) -> None:
    old = f"{tenant.organization}-1"
    added = admin.succeed("org", "keys", "add", tenant.organization, str(public(key_file)))
    assert f"piste org keys revoke {tenant.organization} {old}" in added.stderr
    assert "Let every host trust the new key before that." in added.stderr
    listed = admin.succeed("org", "keys", "list", tenant.organization, "--json").json
    assert [each["held_by"] for each in listed] == ["publisher", "hub"]
    revoked = admin.succeed("org", "keys", "revoke", tenant.organization, old)
    assert "its publishers alone sign" in revoked.stderr
    assert revoked.stdout.split() == [str(public(key_file))]
    assert "nobody" in admin.succeed("org", "keys", "list", tenant.organization).stdout


def test_who_finishes_signs_what_other_machines_built_with_the_same_key(
    publisher: Person, tenant: Tenant, flake: Path, held: PublicKey, key_file: Path, tmp_path: Path
) -> None:
    common = ("--version", "1.0.0", "--signing-key-file", str(key_file))
    check(publish(publisher, tenant, flake, *common, "--stage", "run", "--attribute", DOTTED))
    # The finisher's own store has nothing of the other output.
    finisher = Person(tmp_path / "finisher", tenant.hub.url, tenant.token)
    done = publish(finisher, tenant, flake, *common, "--finish", "run", "--attribute", ATTRIBUTE)
    outputs = json.loads(check(done))["outputs"]
    assert set(outputs) == {ATTRIBUTE, DOTTED}
    assert not has(finisher, outputs[DOTTED])
    host = make_host(tenant, tmp_path / "host", held)
    assert fetch(tenant, host, attribute=DOTTED).code == 0


def test_what_another_machine_signed_with_another_key_is_not_signed_again(
    admin: Person,
    publisher: Person,
    tenant: Tenant,
    flake: Path,
    held: PublicKey,
    key_file: Path,
    tmp_path: Path,
) -> None:
    second = make_key(publisher, tmp_path, f"{tenant.organization}-publisher-2")
    admin.succeed("org", "keys", "add", tenant.organization, str(public(second)))
    common = ("--version", "1.0.0")
    keys = [("--signing-key-file", str(file)) for file in (key_file, second)]
    check(publish(publisher, tenant, flake, *common, *keys[0], "--stage", "run", "--attribute", DOTTED))
    finisher = Person(tmp_path / "finisher", tenant.hub.url, tenant.token)
    end = ("--finish", "run", "--attribute", ATTRIBUTE)
    refused = publish(finisher, tenant, flake, *common, *keys[1], *end)
    assert (refused.code, refused.problem["ref"]) == (6, "unexpected-statement")
    assert releases(tenant) == []
    both = publish(finisher, tenant, flake, *common, *keys[0], *keys[1], *end)
    assert set(json.loads(check(both))["outputs"]) == {ATTRIBUTE, DOTTED}


def test_a_build_that_gives_other_bytes_is_signed_as_the_organization_has_it(
    publisher: Person, tenant: Tenant, held: PublicKey, key_file: Path, tmp_path: Path
) -> None:
    random = 'lucky = run "lucky" "echo $RANDOM$RANDOM$RANDOM$RANDOM > $out";'
    outputs = "nixosConfigurations.web.config.system.build.toplevel = lucky;"
    flake = write_flake(publisher, tmp_path / "flake", random, outputs)
    common = ("--signing-key-file", str(key_file))
    first = Person(tmp_path / "first", tenant.hub.url, tenant.token)
    second = Person(tmp_path / "second", tenant.hub.url, tenant.token)
    check(publish(first, tenant, flake, "--version", "1.0.0", *common))
    again = json.loads(check(publish(second, tenant, flake, "--version", "1.0.1", *common)))
    assert (again["paths_uploaded"], again["paths_present"]) == (0, 1)
    assert fetch(tenant, make_host(tenant, tmp_path / "host", held)).code == 0


def test_a_stock_push_is_signed_with_the_key_too(
    publisher: Person, tenant: Tenant, held: PublicKey, key_file: Path
) -> None:
    path = build(publisher, "", 'run "pushed" "echo pushed > $out"')
    refused = publisher.piste("cache", "push", path, "--name", tenant.name)
    assert refused.code == 1
    publisher.succeed("cache", "push", path, "--name", tenant.name, "--signing-key-file", str(key_file))
    shown = publisher.succeed("cache", "info", path, "--name", tenant.name, "--json").json
    assert [each.partition(":")[0] for each in shown["signatures"]] == [held.name]


def test_what_an_upstream_holds_is_signed_by_the_publisher_too(
    publisher: Person, tenant: Tenant, flake: Path, held: PublicKey, key_file: Path, tmp_path: Path
) -> None:
    common, key, cache = (
        build(publisher, WEB, "common"),
        make_key(publisher, tmp_path, "up-1"),
        tmp_path / "cache",
    )
    check(publisher.run("nix", "store", "sign", "--key-file", str(key), common))
    check(publisher.run("nix", "copy", "--to", f"file://{cache}?secret-key={key}", common))
    options = ("--version", "1.0.0", "--signing-key-file", str(key_file))
    with serving(cache) as url:
        with client_of(tenant.hub, tenant.hub.admin) as client:
            client.add_upstream(tenant.organization, NewUpstream(url, [str(public(key))]))
        result = json.loads(check(publish(publisher, tenant, flake, *options)))
        assert (result["paths_uploaded"], result["paths_present"]) == (2, 1)
        assert fetch(tenant, make_host(tenant, tmp_path / "host", held)).code == 0
    shown = publisher.succeed("cache", "info", common, "--name", tenant.name, "--json").json
    assert {each.partition(":")[0] for each in shown["signatures"]} >= {"up-1", held.name}


# A hub that was taken over


def _offering(change_text: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    """A lie about what is to be signed."""

    def lie(path: str, body: bytes) -> bytes:
        if not path.endswith("/finish") or b'"statements":' not in body:
            return body
        answer = json.loads(body)
        change_text(answer)
        return json.dumps(answer).encode()

    return lie


def _replaced(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def change_text(answer: dict[str, Any]) -> None:
        said = decode_statement(answer["statements"][0])
        known = {name: getattr(said, name) for name in said.__struct_fields__}
        answer["statements"][0] = encode_statement(type(said)(**(known | fields)))

    return change_text


def _other_number(answer: dict[str, Any]) -> None:
    answer["sequence"] += 1


def _more(answer: dict[str, Any]) -> None:
    answer["statements"].append("1;/nix/store/" + "0" * 32 + "-x;sha256:" + "0" * 52 + ";1;")


def _spaced(answer: dict[str, Any]) -> None:
    answer["statements"][0] = answer["statements"][0].replace('":', '": ', 1)


_ZEROS = "0" * 32


@pytest.mark.parametrize(
    "lie",
    [
        _replaced(store_path=f"/nix/store/{_ZEROS}-evil"),
        _replaced(manifest="sha256:" + "0" * 64),
        _replaced(version="9.0.0"),
        _replaced(attribute_path="nixosConfigurations.database"),
        _replaced(project="other"),
        _replaced(organization="other"),
        _replaced(system="riscv64-none"),
        _replaced(sequence=10**9),
        _replaced(sequence=-1),
        _other_number,
        _more,
        _spaced,
    ],
)
def test_a_publisher_signs_nothing_that_it_did_not_make_out_itself(
    publisher: Person,
    tenant: Tenant,
    flake: Path,
    held: PublicKey,
    key_file: Path,
    liar: Liar,
    lie: Callable[[dict[str, Any]], None],
) -> None:
    liar.lie = _offering(lie)
    victim = Person(publisher.folder, liar.url, tenant.token)
    refused = publish(victim, tenant, flake, "--version", "1.0.0", "--signing-key-file", str(key_file))
    assert (refused.code, refused.problem["ref"]) == (6, "unexpected-statement"), refused.stderr
    assert sum(path.endswith("/finish") for path in liar.asked) == 1, "no signature went out"
    assert releases(tenant) == []


def test_a_publisher_signs_no_closure_of_the_hubs_making(
    publisher: Person,
    tenant: Tenant,
    flake: Path,
    held: PublicKey,
    key_file: Path,
    liar: Liar,
    tmp_path: Path,
) -> None:
    common = ("--version", "1.0.0", "--signing-key-file", str(key_file))
    check(publish(publisher, tenant, flake, *common, "--stage", "run", "--attribute", DOTTED))

    def lie(path: str, body: bytes) -> bytes:
        if not path.endswith("/paths"):
            return body
        answer = json.loads(body)
        for each in answer:
            each["nar_size"] += 1
        return json.dumps(answer).encode()

    liar.lie = lie
    finisher = Person(tmp_path / "finisher", liar.url, tenant.token)
    refused = publish(finisher, tenant, flake, *common, "--finish", "run", "--attribute", ATTRIBUTE)
    assert (refused.code, refused.problem["ref"]) == (6, "unexpected-statement")
    assert releases(tenant) == []


def test_a_hub_that_goes_on_signing_with_its_old_key_is_refused_by_the_host(
    admin: Person, publisher: Person, tenant: Tenant, flake: Path, key_file: Path, liar: Liar, tmp_path: Path
) -> None:
    kept = _hub_key(tenant)  # by an operator who copied it in time
    key = public(key_file)
    admin.succeed("org", "keys", "add", tenant.organization, str(key))
    options = ("--signing-key-file", str(key_file))
    check(publish(publisher, tenant, flake, "--version", "1.0.0", *options))
    change(publisher, flake, '"one"', '"two"')
    second = json.loads(check(publish(publisher, tenant, flake, "--version", "2.0.0", *options)))
    admin.succeed("org", "keys", "revoke", tenant.organization, kept.name)
    host = make_host(tenant, tmp_path / "host", key, hub=liar.url)

    def forge_statement(path: str, body: bytes) -> bytes:
        if "/plan/" not in path:
            return body
        answer = json.loads(body)
        told = answer["resolution"]
        told["statement"] = told["statement"].replace('"sequence":2', '"sequence":99')
        told["statement_signatures"] = [kept.sign(told["statement"])]
        return json.dumps(answer).encode()

    def forge_paths(path: str, body: bytes) -> bytes:
        if "/plan/" not in path:
            return body
        answer = json.loads(body)
        sources, signature = answer["sources"], kept.sign("1;").partition(":")[2].rstrip("=")
        sources["signatures"] = signature * (len(sources["signatures"]) // len(signature))
        return json.dumps(answer).encode()

    for lie, refs in ((forge_statement, ["untrusted-statement"]), (forge_paths, ["store-refused"])):
        liar.lie = lie
        refused = fetch(tenant, host)
        assert refused.code != 0
        assert refused.problem["ref"] in refs, refused.stderr
        assert not has(host, second["outputs"][ATTRIBUTE])
    liar.honest()
    assert fetch(tenant, host).code == 0


def test_a_revoked_key_is_no_use_to_whoever_took_it(
    admin: Person,
    publisher: Person,
    tenant: Tenant,
    flake: Path,
    held: PublicKey,
    key_file: Path,
    tmp_path: Path,
) -> None:
    check(publish(publisher, tenant, flake, "--version", "1.0.0", "--signing-key-file", str(key_file)))
    new = make_key(publisher, tmp_path, f"{tenant.organization}-publisher-2")
    admin.succeed("org", "keys", "add", tenant.organization, str(public(new)))
    needed = admin.piste("org", "keys", "revoke", tenant.organization, held.name, "--json")
    assert (needed.code, needed.problem["ref"]) == (1, "key-needed")
    admin.succeed("org", "keys", "revoke", tenant.organization, held.name, "--signatures", "drop")
    thief = publish(publisher, tenant, flake, "--version", "1.1.0", "--signing-key-file", str(key_file))
    assert (thief.code, thief.problem["ref"]) == (2, "signing-key-unknown")
    host = make_host(tenant, tmp_path / "host", held, public(new))
    refused = fetch(tenant, host)
    assert (refused.code, refused.problem["ref"]) == (6, "untrusted-statement")
    check(publish(publisher, tenant, flake, "--version", "1.0.0", "--signing-key-file", str(new)))
    assert fetch(tenant, host).code == 0


@pytest.fixture
def liar(tenant: Tenant) -> Any:
    with running_liar(tenant.hub.url) as made:
        yield made


def _hub_key(tenant: Tenant) -> SecretKey:
    with sqlite3.connect(tenant.hub.data / "piste.sqlite") as database:
        [(name, seed)] = database.execute(
            """SELECT k.name, k.secret FROM signing_key k JOIN organization o ON o.id = k.organization
               WHERE o.name = ?""",
            (tenant.organization,),
        )
    return SecretKey(name, seed)
